-- What practices declare about their limits.

-- Set or change a limit of a source. What is booked already stays, however small the limit is made.
create function put_limit(p_now timestamptz, p_source text, p_name text, p_counts text, p_period text, p_most int,
    p_share int, p_zone text, p_own_only boolean, p_members text[], out document json, out published outbox[])
language plpgsql as $$
declare before practice_limit; l practice_limit; touched bigint[];
begin
    select * from practice_limit where source = p_source and name = p_name into before;
    touched := array(
        select id from slots_of_members(p_members, case when p_own_only then p_source end, p_now, 'infinity')
        union select id from slots_under(before, p_now, 'infinity'));
    perform lock_places(touched);
    insert into practice_limit as k (source, name, counts, period, most, share, zone, own_only, version)
    values (p_source, p_name, p_counts, p_period, p_most, p_share, p_zone, p_own_only, nextval('change_seq'))
    on conflict on constraint limit_of_source do update set counts = excluded.counts, period = excluded.period,
        most = excluded.most, share = excluded.share, zone = excluded.zone, own_only = excluded.own_only,
        version = excluded.version
    returning * into l;
    delete from limit_member where limit_id = l.id;
    insert into limit_member select distinct m, l.id from unnest(p_members) m;
    delete from limit_closed where limit_id = l.id;
    published := (select array_agg(o) from announce_limit(p_now, limit_definition(l)) o)
        || (select array_agg(o) from announce_states(p_now, touched) o);
    document := limit_json(l, p_now);
end $$;

-- Take a limit of a source back. outcome: 'removed' | 'not_found'.
create function remove_limit(p_now timestamptz, p_source text, p_name text, out outcome text, out published outbox[])
language plpgsql as $$
declare l practice_limit; touched bigint[];
begin
    select * from practice_limit where source = p_source and name = p_name into l;
    touched := array(select id from slots_under(l, p_now, 'infinity'));
    perform lock_places(touched);
    delete from practice_limit where id = l.id;
    if not found then outcome := 'not_found'; return; end if;
    published := (select array_agg(o) from announce_limit(p_now, json_build_object(
            'id', l.id, 'version', nextval('change_seq'), 'gone', true)) o)
        || (select array_agg(o) from announce_states(p_now, touched) o);
    outcome := 'removed';
end $$;

-- Announce a limit to the matchers.
create function announce_limit(p_now timestamptz, p_data json) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    values (p_now, '', 'places', 'limit', '', 0, '', '{}', p_data::text)
    returning *
$$;
