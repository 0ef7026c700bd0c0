-- How rows look outside: the one definition of each document that is answered, pushed or mirrored.

-- The slots, of whatever status, of a source, some professionals or structures that start in [p_from, p_to). By one index
-- after the other: a condition with "or" would read everybody's.
create function slots_of_practice(p_source text, p_professionals text[], p_structures text[], p_from timestamptz,
    p_to timestamptz) returns setof slot language sql stable as $$
    with who as materialized (
        select array(select 'p:' || p from unnest(p_professionals) p)
            || array(select 's:' || c from unnest(p_structures) c) as members)
    select s.* from slot s where s.id in (
        select o.id from slot o where o.source = p_source and o.starts >= p_from and o.starts < p_to
        union all
        select o.id from who cross join lateral slots_of_members(who.members, null, p_from, p_to) o
        union all
        select o.id from who cross join lateral withdrawn_of_members(who.members, null, p_from, p_to) o)
$$;

-- The bookings on a slot, those too that are over; each kind has an index of its own.
create function bookings_on(p_slot bigint) returns setof booking language sql stable as $$
    select * from booking where slot_id = p_slot and ended_at is null
    union all
    select * from booking where slot_id = p_slot and ended_at is not null
$$;

-- Seats of a slot that a request could take: none when withdrawn, when its professional is booked over it or when a limit
-- of its practice is reached; below zero when the practice now offers fewer than are given, so that the matcher knows how
-- many promises must move.
create function place_left(s slot) returns int language sql stable as $$
    select case
        when s.status <> 'open' or s.for_request is not null or s.shut then 0
        when s.capacity = 1 and s.professional is not null and exists (
            select from booking b
            where b.professional = s.professional and b.ended_at is null
              and b.during && tstzrange(s.starts, s.ends)) then 0
        else least(
            s.capacity - (select count(*)::int from booking b where b.slot_id = s.id and b.ended_at is null),
            case when s.handed_back is not null then 0 end,
            case when exists (select from limit_closed) and is_closed(s) then 0 end)
    end
$$;

-- The public record of a place, without the number of seats left (which changes far more often).
create function place_json(s slot) returns json language sql immutable as $$
    select json_build_object(
        'slot_id', s.id, 'source', s.source, 'external_id', s.external_id, 'territory', s.territory,
        'professional', s.professional, 'professional_name', s.professional_name,
        'structure', s.structure, 'structure_name', s.structure_name, 'source_kind', s.source_kind,
        'lat', s.lat, 'lon', s.lon, 'landmass', s.landmass, 'insee', s.insee, 'label', s.label, 'phone', s.phone,
        'start', s.starts, 'end', s.ends, 'capacity', s.capacity, 'mode', s.mode, 'booking_kind', s.booking_kind,
        'profession', s.profession, 'specialty', s.specialty, 'offers', s.offers, 'visibility', s.visibility,
        'acceptance', s.acceptance, 'accept_min', s.accept_min, 'back_at', s.back_at, 'own_until', s.own_until,
        'valid_at', s.valid_at, 'checked_at', s.checked_at, 'version', s.version)
$$;

-- Where the acceptance of a booking stands: null where there is none to give.
create function acceptance_json(b booking) returns json language sql immutable as $$
    select case when b.acceptance is not null then json_build_object(
        'kind', b.acceptance, 'until', b.accept_until, 'accepted_at', b.accepted_at) end
$$;

-- What its regulator sees of a request: with the booking that it has now, and the page where that one is made, if there is any.
-- Without queries of its own, so that it becomes part of the statement that asks for it.
create function request_document(r request, b booking, link text) returns json language sql stable as $$
    select json_build_object(
        'request_id', r.id, 'territory', r.territory, 'status', r.status, 'version', r.version, 'tier', r.tier,
        'delay', r.delay, 'created_at', r.created_at, 'deadline', r.deadline, 'profession', r.profession,
        'specialty', r.specialty, 'modes', r.modes, 'radius_km', r.radius_km, 'needs', r.needs,
        'age_band', r.age_band, 'mt', r.mt, 'has_mt', r.has_mt,
        'mt_first', case when r.mt_said is not null then json_build_object('said', r.mt_said, 'until', r.mt_until) end,
        'priority', r.priority, 'on_phone', r.on_phone, 'case_ref', r.case_ref,
        'lat', r.lat, 'lon', r.lon, 'insee', r.insee,
        'booking', case when b.id is not null then json_build_object(
            'booking_id', b.id, 'slot_id', b.slot_id, 'state', b.state, 'held_at', b.held_at,
            'hold_until', case when b.state = 'held' then b.hold_until end, 'firm_at', b.firm_at,
            'acceptance', acceptance_json(b), 'link', link) end,
        'promise', case when r.promised_at is not null then json_build_object(
            'since', r.promised_at, 'seen_before', r.deadline, 'told_by', r.told_by, 'moves', r.moves,
            'broken', r.broken, 'lost_to_practice', r.lost_to_practice) end,
        'refusal', case when r.refused_for is not null then json_build_object(
            'reason', r.refused_for, 'at', r.refused_at) end,
        'excluded', r.excluded, 'decision', r.decision)
$$;

create function request_json(r request) returns json language sql stable as $$
    select request_document(r, b, (select l.url from editor_link l where l.slot_id = b.slot_id))
    from (values (r.booking_id)) k(id) left join booking b on b.id = k.id
$$;

-- What the practice sees of a booking: nothing that tells who the patient is, or where they are.
create function booking_json(b booking) returns json language sql stable as $$
    select json_build_object(
        'booking_id', b.id, 'state', b.state, 'version', b.version, 'end_reason', b.end_reason,
        'slot_id', s.id, 'source', s.source, 'external_id', s.external_id, 'territory', s.territory,
        'professional', s.professional, 'professional_name', s.professional_name, 'structure', s.structure,
        'structure_name', s.structure_name, 'label', s.label, 'start', s.starts, 'end', s.ends, 'mode', s.mode,
        'booking_kind', s.booking_kind, 'capacity', s.capacity, 'acceptance', acceptance_json(b),
        'profession', s.profession, 'needs', r.needs, 'age_band', r.age_band, 'tier', r.tier,
        'own_patient', r.mt is not null and r.mt = s.professional,
        'held_at', b.held_at, 'firm_at', b.firm_at, 'ended_at', b.ended_at)
    from slot s, request r where s.id = b.slot_id and r.id = b.request_id
$$;

create function slot_audience(s slot) returns text[] language sql immutable as $$
    select array_remove(array['src:' || s.source, 'p:' || s.professional, 's:' || s.structure], null)
$$;

-- Announce what a request became to its regulator, and to the matcher when it is the matcher's to decide (it waits, or a
-- promise came back to it) or is so no more. p_type names the event of those that wait; it cannot be said of one whose
-- deadline has passed.
create function announce_requests(p_now timestamptz, p_requests uuid[], p_type text) returns setof outbox
language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, r.territory, k.stream, k.type, r.id::text, r.version, r.key_id, '{}',
           case when k.type = 'closed' then '' else request_json(r)::text end
    from request r
    cross join lateral (values
        ('events', coalesce(case when r.status = 'waiting' then p_type end, 'request.' || r.status)),
        ('requests', case when r.status in ('waiting', 'promised') then 'open' else 'closed' end)) k(stream, type)
    where r.id = any(p_requests) and (k.stream = 'events' or r.promise_behind
        or r.status in ('waiting', 'promised', 'cancelled', 'unserved'))
    order by r.id, k.stream
    returning *
$$;

-- Tell regulators only: what the matcher decided, it knows.
create function tell_regulators(p_now timestamptz, p_requests uuid[], p_type text) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, r.territory, 'events', p_type, r.id::text, r.version, r.key_id, '{}',
           request_document(r, b, l.url)::text
    from request r left join booking b on b.id = r.booking_id left join editor_link l on l.slot_id = b.slot_id
    where r.id = any(p_requests) order by r.id
    returning *
$$;

-- Announce what a booking became to the practice, and to whoever hears of p_before, the slot that it had; p_type names the
-- event, by default its state does.
create function announce_bookings(p_now timestamptz, p_bookings uuid[], p_type text default null, p_before bigint default null)
returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, s.territory, 'events', coalesce(p_type, 'booking.' || b.state), b.id::text, b.version, '',
           slot_audience(s) || array(select a from slot o, unnest(slot_audience(o)) a
                                     where o.id = p_before and a <> all(slot_audience(s))),
           booking_json(b)::text
    from booking b join slot s on s.id = b.slot_id
    where b.id = any(p_bookings) order by b.id
    returning *
$$;

-- The given slots and their siblings: open individual slots of the same professional that overlap them.
create function with_siblings(p_slots bigint[]) returns table (id bigint) language sql stable as $$
    select unnest(p_slots)
    union
    select o.id from unnest(p_slots) u(id) join slot s on s.id = u.id and s.capacity = 1
    cross join lateral (
        select near.id from slot near
        where near.professional = s.professional and near.capacity = 1 and near.status = 'open'
          and near.starts < s.ends and near.ends > s.starts
          -- a bound for the index: slots last 24 hours at the most
          and near.starts > s.starts - interval '24 hours'
        -- the index, slot by slot: without statistics the planner would compare all with all
        offset 0) o
$$;

-- Lock slots and siblings, then the limits over them, in id order: whoever counts, gives, frees or tells their seats comes
-- one after the other.
-- Locks are always taken in this order, each kind at once: requests, places, limits, bookings. So nobody waits in a circle.
create function lock_places(p_slots bigint[]) returns void language plpgsql as $$
begin
    perform from slot where id in (select w.id from with_siblings(p_slots) w) order by id for update;
    -- most practices set none
    if exists (select from practice_limit) then
        perform from practice_limit where id in (
            select o.limit_id from limits_over(array(select w.id from with_siblings(p_slots) w)) o) order by id for update;
    end if;
end $$;

-- Announce what is left of the limits over some slots, and the places that close or open with them. The caller holds the
-- locks of ``lock_places``.
create function announce_limits(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
declare news json[]; changed bigint[]; shut boolean; o record; t record; l practice_limit;
begin
    if not exists (select from practice_limit) then return; end if;
    for o in select distinct limit_id, starts from limits_over(p_slots) order by limit_id, starts loop
        select * from limit_state(o.limit_id, o.starts) into t;
        select * from practice_limit where id = o.limit_id into l;
        news := news || json_build_array(
            l.id, extract(epoch from o.starts)::bigint, greatest(0, t.most - t.taken), nextval('change_seq'));
        continue when l.counts = 'children';
        shut := t.taken >= t.most;
        if shut then
            insert into limit_closed values (l.id, o.starts) on conflict do nothing;
        else
            delete from limit_closed where limit_id = l.id and starts = o.starts;
        end if;
        if found then
            changed := changed || array(select s.id from slots_under(l, o.starts, period_end(l.period, l.zone, o.starts)) s
                where l.counts = 'patients' or s.mode = 'visite');
        end if;
    end loop;
    if news is null then return; end if;
    return query insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
        select p_now, s.territory, 'places', 'limit_left', '', 0, '', '{}', array_to_json(news)::text
        from slot s where s.id = any(p_slots) order by s.id limit 1
        returning *;
    return query with states as (
        select s.territory, s.id, place_left(s) as seats_left, nextval('change_seq') as version
        from (select distinct unnest(changed) as id) w join slot s on s.id = w.id
    )
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, territory, 'places', 'state', '', 0, '', '{}',
           json_agg(json_build_array(id, seats_left, version) order by id)::text
    from states group by territory order by territory
    returning *;
end $$;

-- Tell practices which seats are theirs again, beyond those that they were told of. The caller holds the locks.
create function tell_handed_back(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
declare s slot; told int; unused int;
begin
    for s in select * from slot where id = any(p_slots) and handed_back is not null and status = 'open' and starts > p_now
             order by id loop
        told := s.handed_back;
        s.handed_back := null;
        unused := place_left(s);
        continue when unused <= told;
        update slot set handed_back = unused, back_told = back_told + 1 where id = s.id returning back_told into s.back_told;
        return query insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
            values (p_now, s.territory, 'events', 'places.handed_back', 'slot:' || s.id,
                -- each tells of other seats: none may have the version of the one before, not even in one instant
                s.back_told, '', slot_audience(s),
                json_build_object('slot_id', s.id, 'source', s.source, 'external_id', s.external_id,
                    'territory', s.territory, 'professional', s.professional,
                    'professional_name', s.professional_name, 'structure', s.structure,
                    'structure_name', s.structure_name, 'label', s.label, 'start', s.starts, 'end', s.ends,
                    'mode', s.mode, 'profession', s.profession, 'booking_kind', s.booking_kind,
                    'capacity', s.capacity, 'seats', unused - told)::text)
            returning *;
    end loop;
end $$;

-- Announce the seats left of some slots and of their siblings. The caller holds their locks since before it changed
-- anything: else two changes at once would each count without the other, and the mirror would keep a wrong number.
create function announce_states(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
begin
    if exists (select from practice_limit) then
        return query select * from announce_limits(p_now, p_slots);
    end if;
    if exists (select from slot where id = any(p_slots) and handed_back is not null) then
        return query select * from tell_handed_back(p_now, p_slots);
    end if;
    return query with states as (
        select s.territory, s.id, place_left(s) as seats_left, nextval('change_seq') as version
        from with_siblings(p_slots) w join slot s on s.id = w.id
        where s.status = 'open'
    )
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, territory, 'places', 'state', '', 0, '', '{}',
           json_agg(json_build_array(id, seats_left, version) order by id)::text
    from states group by territory order by territory
    returning *;
end $$;
