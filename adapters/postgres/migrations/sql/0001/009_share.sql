-- Consent of practices: rules that say which of their places leave, for whom and when; and who was shown what under which.
-- A place whose practice has no rule leaves by its own publication and visibility; where there are rules, one must allow it.
-- What a rule makes of a place is kept in its row (slot.shut, platform, own_until, rule): booking judges it there.

create table share_rule (
    id            bigint generated always as identity primary key,
    source        text not null,
    name          text not null,
    -- an editor that speaks for anybody rules its own slots only
    own_only      boolean not null,
    -- the places that it lets leave: starting in these hours of these ISO days, on the clock of `zone`; of these professions
    zone          text not null,
    from_minute   int not null check (from_minute between 0 and 1439),
    to_minute     int not null check (to_minute between 1 and 1440),
    days          int[] not null check (days <> '{}' and days <@ array[1, 2, 3, 4, 5, 6, 7]),
    professions   text[] check (professions <> '{}'),
    -- whom they are for: 'sas' (matched, and shown to regulators), 'platform' (the national one, over FHIR)
    channels      text[] not null check (channels <> '{}' and channels <@ array['sas', 'platform']),
    -- until so many minutes before they start for own patients only; null: for everybody at once
    own_first_min int check (own_first_min between 1 and 10080),
    check (from_minute < to_minute),
    constraint share_rule_of_source unique (source, name)
);

-- Whose places: 'p:' professional or 's:' structure.
create table share_member (
    member  text not null,
    rule_id bigint not null references share_rule (id) on delete cascade,
    primary key (member, rule_id)
);
create index member_of_rule on share_member (rule_id);
create index slot_for_own on slot (own_until) where own_until is not null and status = 'open';

-- Who was shown which places, a row a call; kept for some weeks. rules: of each place, the rule that let it leave ('': its
-- publication).
create table exposure (
    id      bigint generated always as identity primary key,
    at      timestamptz not null,
    channel text not null check (channel in ('offers', 'platform', 'proposed')),
    key_id  text,
    slots   bigint[] not null,
    rules   text[] not null
);
-- without its list of pending entries: whoever writes must not wait for the list of others to be sorted in
create index exposure_of_slot on exposure using gin (slots) with (fastupdate = off);
create index exposure_at on exposure using brin (at);
alter table exposure set (autovacuum_vacuum_insert_threshold = 10000, autovacuum_analyze_threshold = 300,
    autovacuum_analyze_scale_factor = 0.5);

create function share_allows(r share_rule, s slot) returns boolean language sql immutable as $$
    select extract(isodow from s.starts at time zone r.zone)::int = any(r.days)
       and extract(hour from s.starts at time zone r.zone) * 60 + extract(minute from s.starts at time zone r.zone)
           between r.from_minute and r.to_minute - 1
       and (r.professions is null or s.profession = any(r.professions))
$$;

-- Write what the rules make of some places; returns those that changed.
create function share_slots(p_now timestamptz, p_slots bigint[]) returns bigint[] language sql as $$
    with over as (
        select distinct s.id, r.id as rule_id, r.name, r.channels, share_allows(r, s) as allows,
            case when r.own_first_min is null then '-infinity' else s.starts - make_interval(mins => r.own_first_min) end as from_then
        from slot s join share_member m on m.member in ('p:' || s.professional, 's:' || s.structure)
        join share_rule r on r.id = m.rule_id and (s.source = r.source or not r.own_only)
        where s.id = any(p_slots)
    ), judged as (
        select s.id, count(o.rule_id) > 0 as ruled,
            coalesce(bool_or(o.allows and 'sas' = any(o.channels)), false) as sas,
            coalesce(bool_or(o.allows and 'platform' = any(o.channels)), false) as platform,
            -- where both may have it, the one that may later: neither gets it before its rule lets it
            greatest(min(o.from_then) filter (where o.allows and 'sas' = any(o.channels)),
                     min(o.from_then) filter (where o.allows and 'platform' = any(o.channels))) as from_then,
            string_agg(o.name, ',' order by o.name) filter (where o.allows) as rule
        from slot s left join over o on o.id = s.id where s.id = any(p_slots) and s.for_request is null group by s.id
    ), meant as (
        select id, ruled and not sas as shut, not ruled or platform as platform,
            case when from_then > p_now then from_then end as own_until, rule
        from judged
    ), done as (
        update slot s set shut = m.shut, platform = m.platform, own_until = m.own_until, rule = m.rule
        from meant m
        where s.id = m.id and (s.shut, s.platform, s.own_until, s.rule) is distinct from (m.shut, m.platform, m.own_until, m.rule)
        returning s.id
    ) select coalesce(array_agg(id), '{}') from done
$$;

create function share_rule_json(r share_rule) returns json language sql stable as $$
    select json_build_object(
        'name', r.name, 'zone', r.zone, 'from_minute', r.from_minute, 'to_minute', r.to_minute, 'days', r.days,
        'professions', r.professions, 'channels', r.channels, 'own_first_min', r.own_first_min,
        'professionals', array(select substr(member, 3) from share_member where rule_id = r.id and member like 'p:%' order by 1),
        'structures', array(select substr(member, 3) from share_member where rule_id = r.id and member like 's:%' order by 1))
$$;

-- The open slots of a rule's members that are still to come.
create function slots_shared(p_rule bigint, p_now timestamptz) returns bigint[] language sql stable as $$
    select array(select s.id from share_rule r cross join lateral slots_of_members(
        array(select member from share_member where rule_id = r.id), case when r.own_only then r.source end, p_now, 'infinity') s
        where r.id = p_rule)
$$;

-- Set or change a rule of a source, in force for every place that is not booked; what is booked or promised stays.
create function put_share_rule(p_now timestamptz, p_row json, p_members text[], out document json, out published outbox[])
language plpgsql as $$
declare n share_rule; r share_rule; touched bigint[];
begin
    n := json_populate_record(null::share_rule, p_row);
    -- one after the other: which rules there are decides what is written
    perform pg_advisory_xact_lock(20260002);
    touched := slots_shared((select id from share_rule where source = n.source and name = n.name), p_now)
        || array(select id from slots_of_members(p_members, case when n.own_only then n.source end, p_now, 'infinity'));
    perform lock_places(touched);
    insert into share_rule as k (source, name, own_only, zone, from_minute, to_minute, days, professions, channels, own_first_min)
    values (n.source, n.name, n.own_only, n.zone, n.from_minute, n.to_minute, n.days, n.professions, n.channels, n.own_first_min)
    on conflict on constraint share_rule_of_source do update set own_only = excluded.own_only, zone = excluded.zone,
        from_minute = excluded.from_minute, to_minute = excluded.to_minute, days = excluded.days,
        professions = excluded.professions, channels = excluded.channels, own_first_min = excluded.own_first_min
    returning * into r;
    delete from share_member where rule_id = r.id;
    insert into share_member select distinct m, r.id from unnest(p_members) m;
    published := (select array_agg(o) from reshare(p_now, touched) o);
    document := share_rule_json(r);
end $$;

-- outcome: 'removed' | 'not_found'.
create function remove_share_rule(p_now timestamptz, p_source text, p_name text, out outcome text, out published outbox[])
language plpgsql as $$
declare r share_rule; touched bigint[];
begin
    perform pg_advisory_xact_lock(20260002);
    select * from share_rule where source = p_source and name = p_name into r;
    touched := slots_shared(r.id, p_now);
    perform lock_places(touched);
    delete from share_rule where id = r.id;
    if not found then outcome := 'not_found'; return; end if;
    published := (select array_agg(o) from reshare(p_now, touched) o);
    outcome := 'removed';
end $$;

-- Write what the rules make of some places, and announce those that changed. The caller holds their locks.
create function reshare(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
declare changed bigint[];
begin
    changed := share_slots(p_now, p_slots);
    update slot set version = nextval('change_seq'), changed_at = p_now where id = any(changed);
    return query select * from announce_places(p_now, changed);
end $$;

-- Let everybody have the places that own patients had first until now. Returns outbox rows.
create function open_for_all(p_now timestamptz, p_limit int) returns setof outbox language plpgsql as $$
declare due bigint[];
begin
    due := array(select id from slot where own_until <= p_now and status = 'open' order by own_until, id limit p_limit);
    if due = '{}' then return; end if;
    perform lock_places(due);
    with opened as (
        -- one that was withdrawn while it was waited for is gone
        update slot set own_until = null, version = nextval('change_seq'), changed_at = p_now
        where id = any(due) and own_until <= p_now and status = 'open' returning id
    ) select array_agg(id) from opened into due;
    return query select * from announce_places(p_now, due);
end $$;

-- Write that a key was shown some places.
create function note_exposure(p_now timestamptz, p_channel text, p_key_id text, p_slots bigint[]) returns void language sql as $$
    insert into exposure (at, channel, key_id, slots, rules)
    select p_now, p_channel, p_key_id, array_agg(s.id order by s.id), array_agg(coalesce(s.rule, '') order by s.id)
    from slot s where s.id = any(p_slots) having count(*) > 0
$$;

-- What became known of a practice's places, and to whom: shown, proposed, asked (en sus), booked; newest first.
create function exposures_of(p_source text, p_professionals text[], p_structures text[], p_from timestamptz,
    p_to timestamptz, p_limit int)
returns table (at timestamptz, what text, role text, key_id text, slot_id bigint, external_id text, starts timestamptz, rule text)
language plpgsql stable as $$
declare mine bigint[];
begin
    -- places are shown from a quarter before they start (publishing's horizon) until they do
    mine := array(
        select s.id from slots_of_practice(p_source, p_professionals, p_structures, p_from, p_to + interval '92 days') s);
    return query
        select * from (
            select e.at, e.channel, k.role, e.key_id, s.id, s.external_id, s.starts, u.rule
            from exposure e cross join unnest(e.slots, e.rules) u(slot_id, rule) join slot s on s.id = u.slot_id
            left join api_key k on k.id = e.key_id
            where e.slots && mine and s.id = any(mine) and e.at >= p_from and e.at < p_to
            union all
            select b.firm_at, 'booked', k.role, r.key_id, s.id, s.external_id, s.starts, b.rule
            from unnest(mine) m(id) join slot s on s.id = m.id cross join lateral bookings_on(s.id) b
            join request r on r.id = b.request_id join api_key k on k.id = r.key_id
            where b.firm_at >= p_from and b.firm_at < p_to
            union all
            select q.asked_at, 'asked', k.role, r.key_id, null, null, null, 'en_sus:' || o.name
            from question q join overflow o on o.id = q.overflow_id join request r on r.id = q.request_id
            join api_key k on k.id = r.key_id
            where (o.source = p_source or o.professional = any(p_professionals) or o.structure = any(p_structures))
              and q.asked_at >= p_from and q.asked_at < p_to) w
        order by 1 desc, 2, 5 limit p_limit;
end $$;
