-- The life of a request. Every function is one transaction's work and returns the outbox rows it wrote, so that the
-- writer can publish them at once; what it fails to publish, the sweeper does.

-- Write new requests. p_rows: array of objects with the columns of `request` plus idem_key, body_hash (hex). Whose
-- Idempotency-Key came before is left out. verdicts: [{"n": position, "id": request, "created": whether it was written}].
create function insert_requests(p_now timestamptz, p_rows json, out fresh uuid[], out verdicts json) language sql as $$
    with incoming as (
        select n, d.* from json_array_elements(p_rows) with ordinality as e(doc, n),
        lateral json_to_record(e.doc) as d(
            id uuid, key_id text, idem_key text, body_hash text, territory text, lat double precision,
            lon double precision, insee text, profession text, specialty text, modes text[], tier text, delay text,
            deadline timestamptz, radius_km double precision, needs text[], age_band text, mt text, has_mt text,
            priority text, on_phone boolean, case_ref text, created_at timestamptz)
    ), claimed as (
        insert into idempotency (key_id, key, body_hash, request_id, created_at)
        select key_id, idem_key, decode(body_hash, 'hex'), id, p_now from incoming
        -- in one order, whoever writes: claims and the senders of their requests write the same keys
        order by key_id, idem_key
        on conflict do nothing
        returning key_id, key, request_id
    ), created as (
        insert into request (id, key_id, territory, lat, lon, insee, profession, specialty, modes, tier, delay,
            created_at, deadline, radius_km, needs, age_band, mt, has_mt, priority, on_phone, case_ref)
        select i.id, i.key_id, i.territory, i.lat, i.lon, i.insee, i.profession, i.specialty, i.modes, i.tier, i.delay,
            i.created_at, i.deadline, i.radius_km, i.needs, i.age_band, i.mt,
            coalesce(i.has_mt, case when i.mt is not null then 'yes' else 'unknown' end), i.priority, i.on_phone, i.case_ref
        from incoming i join claimed c on c.request_id = i.id
        returning id
    )
    select (select array_agg(id) from created),
           (select json_agg(json_build_object('n', i.n - 1, 'id', i.id, 'created', c.request_id is not null))
              from incoming i left join claimed c on c.request_id = i.id)
$$;

-- Take in new requests. The commit is not waited for to be flushed: the decision comes milliseconds later, and with its
-- commit, which is, all that was committed before is safe; whoever tells of a request before it is decided flushes first
-- (``secure`` of the ledger). p_rows, verdicts: as in `insert_requests`.
create function create_requests(p_now timestamptz, p_rows json, out verdicts json, out published outbox[])
language plpgsql as $$
declare fresh uuid[]; asked outbox[];
begin
    select i.fresh, i.verdicts from insert_requests(p_now, p_rows) i into fresh, verdicts;
    if exists (select from territory_setting where mt_rule = 'first') then
        -- whoever counts the questions of a day comes one after the other, in the order of `advance_asking`
        perform from overflow where removed_at is null and professional in (select mt from request where id = any(fresh))
        order by id for update;
        asked := (select array_agg(o) from request r cross join lateral ask_mt(p_now, r.id) o
            where r.id = any(fresh) and r.mt is not null);
    end if;
    with announced as (
        insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
        select p_now, r.territory, 'requests', 'open', r.id::text, 1, r.key_id, '{}', request_document(r, null, null)::text
        from request r where r.id = any(fresh) order by r.id
        returning *
    )
    select array_agg(a::outbox order by a.id) from announced a into published;
    if asked is null then
        perform set_config('synchronous_commit', 'off', true);
    else
        published := published || asked; -- people are asked at once
    end if;
end $$;

-- What a replayed Idempotency-Key stands for.
create function idempotency_of(p_key_id text, p_key text) returns table
    (body_hash bytea, request_id uuid, status int, answer text)
language sql stable as $$
    select body_hash, request_id, status, answer from idempotency where key_id = p_key_id and key = p_key
$$;

-- The slots of expired holds that count under the limits over some slots: to be locked with these, and given up with those
-- on them.
create function due_under_limits(p_now timestamptz, p_slots bigint[]) returns bigint[] language plpgsql stable as $$
begin
    if not exists (select from practice_limit) then return '{}'; end if;
    return array(
        with wanted as materialized (select limit_id, starts from limits_over(p_slots))
        select b.slot_id from booking b
        where b.state = 'held' and b.ended_at is null and b.hold_until <= p_now and exists (
            select from limits_over(array[b.slot_id]) o where (o.limit_id, o.starts) in (select w.* from wanted w)));
end $$;

-- Give up holds whose deadline has passed: all of them (p_slots null) or those that stand in the way of booking some
-- slots: on them, or on an individual slot of the same professional that overlaps. Returns outbox rows.
-- A hold whose request is busy in another transaction is left to that one, or to the next sweep. A place that was
-- chosen in the stead of a promise is not given up: the promise returns, and this is now its seat; where its practice has
-- taken it off meanwhile the promise is lost to it, where it has begun it is broken.
create function lapse_holds(p_now timestamptz, p_slots bigint[], p_limit int) returns setof outbox language plpgsql as $$
declare due uuid[]; ended uuid[]; slots bigint[]; back uuid[]; lost uuid[]; broken uuid[]; gone record;
begin
    with over as (
        select b.request_id from booking b
        where b.state = 'held' and b.ended_at is null and b.hold_until <= p_now
          and (p_slots is null or b.slot_id = any(p_slots)
               or exists (select from slot s where s.id = any(p_slots) and s.capacity = 1
                          and s.professional = b.professional and tstzrange(s.starts, s.ends) && b.during))
        order by b.hold_until limit p_limit
    ), locked as (
        select r.id from request r where r.id in (select request_id from over) and r.status = 'held'
        order by r.id for update skip locked
    )
    select array_agg(id) from locked into due;
    if due is null then return; end if;
    perform lock_places(array(select slot_id from booking where request_id = any(due) and ended_at is null));
    with returned as (
        update booking b set state = 'promised', version = b.version + 1 from request r, slot s
        where r.id = any(due) and r.promise_behind and b.request_id = r.id and s.id = b.slot_id and s.status = 'open'
          and s.starts > p_now and b.state = 'held' and b.ended_at is null and b.hold_until <= p_now
        returning b.request_id
    ), promised as (
        update request set status = 'promised', version = version + 1, promise_behind = false
        where id in (select request_id from returned) returning id
    ), released as (
        update booking b set state = 'lapsed', ended_at = p_now, end_reason = 'hold_ended', version = b.version + 1
        from request r
        where r.id = any(due) and not r.promise_behind and b.request_id = r.id
          and b.state = 'held' and b.ended_at is null and b.hold_until <= p_now
        returning b.request_id, b.slot_id
    )
    select (select array_agg(id) from promised), array_agg(request_id), array_agg(slot_id) from released
    into back, ended, slots;
    update request set status = 'lapsed', version = version + 1, booking_id = null where id = any(ended);
    return query select * from announce_requests(p_now, ended || back, null);
    return query select * from announce_states(p_now, slots);
    for gone in select k.id, k.request_id, s.id as slot_id, s.status = 'open' as begun
             from request r join booking k on k.id = r.booking_id join slot s on s.id = k.slot_id
             where r.id = any(due) and r.promise_behind and k.state = 'held' and k.ended_at is null and k.hold_until <= p_now
             order by k.id loop
        if gone.begun then
            return query select * from release_booking(p_now, gone.id, 'displaced', 'never_told', 'waiting', '{}');
            broken := broken || gone.request_id;
        else
            return query select * from release_booking(
                p_now, gone.id, 'withdrawn', 'closed', 'waiting', array['s' || gone.slot_id]);
            lost := lost || gone.request_id;
        end if;
    end loop;
    return query select * from announce_requests(p_now, lost, 'request.reopened');
    return query select * from announce_requests(p_now, broken, 'request.displaced');
end $$;

-- Requests that nobody could serve before their deadline, and promises whose seat has begun without being told: broken, or
-- lost to the practice that offers fewer seats than it did, or did so until it was too late to tell. Their requests wait
-- again where there is still time.
create function close_unserved(p_now timestamptz, p_limit int) returns setof outbox language plpgsql as $$
declare closed uuid[]; untold uuid[]; lost uuid[]; b record;
begin
    -- in the order of the indexes of who is open: by id, PostgreSQL would look through all requests of the day
    with due as (
        select id from request where status = 'waiting' and deadline <= p_now order by deadline limit p_limit for update skip locked
    ), done as (
        update request r set status = 'unserved', version = version + 1 from due where r.id = due.id returning r.id
    ) select array_agg(id) from done into closed;
    return query select * from announce_requests(p_now, closed, null);
    select array_agg(id) from (
        select r.id from request r
        where r.status = 'promised' and exists (
            select from booking k join slot s on s.id = k.slot_id where k.id = r.booking_id and s.starts <= p_now)
        order by r.booking_id limit p_limit for update skip locked) late
    into untold;
    if untold is null then return; end if;
    perform lock_places(array(select k.slot_id from request r join booking k on k.id = r.booking_id where r.id = any(untold)));
    -- whoever was told, or holds a seat, has his before any promise
    for b in select r.id, r.booking_id,
                 (select count(*) from booking o where o.slot_id = s.id and o.ended_at is null
                    and (o.state <> 'promised' or o.seat < k.seat)) >= least(s.capacity, s.cut_to) as lost
             from request r join booking k on k.id = r.booking_id join slot s on s.id = k.slot_id
             where r.id = any(untold) and r.status = 'promised' order by r.id loop
        if b.lost then lost := lost || b.id; end if;
        return query select * from release_booking(p_now, b.booking_id,
            case when b.lost then 'withdrawn' else 'displaced' end, 'never_told', 'waiting', '{}');
    end loop;
    return query select * from announce_requests(p_now, lost, 'request.reopened');
    return query select * from announce_requests(p_now,
        array(select u from unnest(untold) u where u <> all(coalesce(lost, '{}'))), 'request.displaced');
end $$;

-- What a seat becomes when it is told: firm, but on another editor's place only that editor (INT_R03) or the regulator can
-- say so: there it is held.
create function told_state(p_source text) returns text language sql immutable as $$
    select case when p_source like 'fhir:%' then 'held' else 'firm' end
$$;

-- Until when the territory of a request holds a place: no hold outlives the start of its place.
create function hold_end(p_now timestamptz, p_request uuid, p_starts timestamptz) returns timestamptz language sql stable as $$
    select least(p_now + make_interval(secs => coalesce(t.hold_seconds, 180)), p_starts)
    from request r left join territory_setting t on t.territory = r.territory where r.id = p_request
$$;

-- A seat that a claim won.
create type claimed_seat as (booking_id uuid, request_id uuid, state text);

-- Whether a place may be given to a request: judged on the rows, whatever the matcher believed.
create function suits(s slot, r request, p_now timestamptz) returns boolean language sql stable as $$
    select s.status = 'open' and s.starts > p_now and s.starts <= r.deadline
        and s.profession = r.profession and s.mode = any(r.modes) and s.offers @> r.needs
        and not r.excluded && array['s' || s.id, 'p' || s.professional]
        and coalesce(s.for_request = r.id, true) and s.handed_back is null
        and not s.shut and (coalesce(s.own_until <= p_now, true) or s.professional = r.mt)
$$;

-- Whether a request may have a new seat by a claim of a kind: it waits, or it is one of p_movers, whose promised seats were
-- given back.
create function may_claim(r request, p_kind text, p_movers uuid[]) returns boolean language sql immutable as $$
    select case when p_kind in ('hold', 'promise') and r.status = 'waiting' then true
                else p_kind in ('promise', 'tell') and r.id = any(p_movers) end
$$;

-- Take the seats that a batch wants, in its order. The caller has locked requests and places.
create function take_seats(p_now timestamptz, p_requests uuid[], p_slots bigint[], p_bookings uuid[],
    p_hold_until timestamptz[], p_kinds text[], p_movers uuid[]) returns claimed_seat[] language plpgsql as $$
declare won claimed_seat[]; over_limit bigint[] := '{}';
begin
    if exists (select from practice_limit) then
        -- as with seats, the turn counts whoever wanted the slot, also who then fails for another reason
        over_limit := array(
            with over_slots as materialized (select * from limits_over(p_slots)), turns as (
                select c.n, o.limit_id, o.starts, row_number() over (partition by o.limit_id, o.starts order by c.n) as turn
                from unnest(p_requests, p_slots) with ordinality c(request_id, slot_id, n)
                join request r on r.id = c.request_id and (r.status = 'waiting' or r.id = any(p_movers))
                join over_slots o on o.slot_id = c.slot_id and (o.closes or (o.counts = 'children' and is_child(r)))
            ), lefts as materialized (
                select limit_id, starts, limit_left(limit_id, starts) as places
                from (select distinct limit_id, starts from turns) t
            )
            select distinct t.n from turns t join lefts using (limit_id, starts) where t.turn > lefts.places);
    end if;
    with claim as (
        select * from unnest(p_requests, p_slots, p_bookings, p_hold_until, p_kinds)
            with ordinality as c(request_id, slot_id, booking_id, hold_until, kind, n)
    ), ranked as (
        select c.*, s.starts, s.territory, s.professional, s.capacity, s.rule, s.version as slot_version, told_state(s.source) as told, s.acceptance,
               case when s.capacity = 1 and s.professional is not null then tstzrange(s.starts, s.ends) end as during,
               row_number() over (partition by c.slot_id order by c.n) as rank,
               (select count(*) from booking b where b.slot_id = s.id and b.ended_at is null) as taken
        from claim c join request r on r.id = c.request_id and may_claim(r, c.kind, p_movers)
        -- by its key: without statistics the planner would read all places of the profession
        join lateral (select k as place, k.* from slot k where k.id = c.slot_id offset 0) s on suits(s.place, r, p_now)
    ), taken as (
        insert into booking (id, request_id, slot_id, seat, territory, professional, during, state, slot_version, held_at,
            hold_until, firm_at, acceptance, rule)
        select booking_id, request_id, slot_id,
               (select g from generate_series(0, capacity - 1) g
                where not exists (select from booking b where b.slot_id = ranked.slot_id and b.seat = g and b.ended_at is null)
                order by g offset ranked.rank - 1 limit 1),
               territory, professional, during,
               case kind when 'hold' then 'held' when 'tell' then told else 'promised' end, slot_version, p_now,
               case when kind = 'hold' then least(hold_until, starts)
                    when kind = 'tell' and told = 'held' then hold_end(p_now, request_id, starts) end,
               case when kind = 'tell' and told = 'firm' then p_now end, acceptance, coalesce(rule, '')
        from ranked where taken + rank <= capacity and n <> all(over_limit)
        order by n
        on conflict do nothing
        returning id, request_id, state
    )
    select array_agg(row(id, request_id, state)::claimed_seat order by id) from taken into won;
    return coalesce(won, '{}');
end $$;

-- The matcher's batch. Arrays of equal length; p_kinds says what each row wants (see ClaimKind of the lifecycle): 'hold',
-- 'promise', 'tell', 'displace' or 'none' ("no place", its decision carries the reason). p_hold_until is the end of the
-- hold (the start of its place at the latest), of a promise the instant by which place and hour are told.
-- What the matcher believed is judged again on the rows: its fence, the request's state, deadline, needs and exclusions,
-- the slot's state, start and seats.
-- The seats of promises that move or are told elsewhere are given back before any is taken: they may change round. Who
-- then gets no seat keeps the old one, and whoever wanted that one is judged anew.
-- verdicts: per row 'held' | 'promised' | 'moved' | 'told_firm' | 'displaced' | 'told' (no place, recorded)
--           | 'seat_lost' | 'limit_reached' | 'not_waiting'.
-- p_arriving: requests among them that the matcher was told of before they were written (as in `insert_requests`; none that
-- has a médecin traitant, who might have to be asked first): written here, so that each is committed with its decision. One
-- whose Idempotency-Key came before never was: nothing is decided (SAS05, with its id), or others would give way to nobody.
create function claim_seats(
    p_now timestamptz, p_territories text[], p_fences bigint[], p_requests uuid[], p_slots bigint[], p_bookings uuid[],
    p_hold_until timestamptz[], p_decisions text[], p_kinds text[], p_shown text[], p_arriving json,
    out verdicts text[], out published outbox[])
language plpgsql as $$
declare
    told uuid[]; lost uuid[]; left_slots bigint[]; known text[];
    due constant bigint[] := case when exists (select from practice_limit) then due_under_limits(p_now, p_slots) end;
    -- promises whose seat may change; those that stay on their slot; those that the crisis displaces
    movers uuid[] := '{}'; stayed uuid[] := '{}'; displaced uuid[] := '{}';
    won claimed_seat[]; firm uuid[];
    -- told on another editor's place
    booked_there uuid[] := '{}';
    plain constant boolean := p_kinds <@ array['hold', 'none'];
begin
    if p_arriving is not null then
        select array_agg(v ->> 'id') from insert_requests(p_now, p_arriving) i, json_array_elements(i.verdicts) v
        where not (v ->> 'created')::boolean into known;
        -- or its sender was faster
        known := array(select k from unnest(known) k where not exists (select from request r where r.id = k::uuid));
        if known <> '{}' then
            raise exception 'known' using errcode = 'SAS05', detail = array_to_string(known, ' ');
        end if;
    end if;
    if (select count(*) from (
            select from lease l join unnest(p_territories, p_fences) f(territory, fence)
                on l.territory = f.territory and l.fence = f.fence order by l.territory for key share of l) held)
       <> cardinality(p_territories)
       or exists (select from request where id = any(p_requests) and territory <> all(p_territories)) then
        raise exception 'fenced' using errcode = 'SAS01';
    end if;
    perform from request where id = any(p_requests) order by id for update;
    if not plain then
        left_slots := array(select b.slot_id from booking b
            where b.request_id = any(p_requests) and b.state = 'promised' and b.ended_at is null);
    end if;
    -- with the siblings of siblings: of those, too, an expired hold may have to be told
    perform lock_places(array(select w.id from with_siblings(p_slots || left_slots || due) w));
    if exists (select from booking where state = 'held' and ended_at is null and hold_until <= p_now) then
        select array_agg(o) from lapse_holds(p_now, p_slots || due, 1000) o into published;
    end if;
    if not plain then
        with gone as (
            update booking b set state = 'displaced', ended_at = p_now, end_reason = 'crisis', version = b.version + 1
            from unnest(p_requests, p_kinds) c(request_id, kind), request r
            where c.kind = 'displace' and r.id = c.request_id and r.status = 'promised' and b.request_id = r.id
              and b.state = 'promised' and b.ended_at is null
            returning b.request_id
        ), waits as (
            update request r set status = case when r.deadline <= p_now then 'unserved' else 'waiting' end,
                version = r.version + 1, booking_id = null, told_by = null, broken = r.broken + 1,
                decision = c.decision::json
            from gone g join unnest(p_requests, p_kinds, p_decisions) c(request_id, kind, decision)
                on c.request_id = g.request_id and c.kind = 'displace'
            where r.id = g.request_id returning r.id
        ) select coalesce(array_agg(id), '{}') from waits into displaced;
        published := coalesce(published, '{}')
            || coalesce((select array_agg(o) from tell_regulators(p_now, displaced, 'request.displaced') o), '{}');
        with claim as (
            select * from unnest(p_requests, p_slots, p_hold_until, p_decisions, p_kinds)
                with ordinality as c(request_id, slot_id, told_by, decision, kind, n)
        ), seated as materialized (
            -- of a plage that was cut since, no more are told than it still takes, in the batch's order
            select c.request_id, s.capacity >= row_number() over (partition by s.id order by c.n)
                + (select count(*) from booking o where o.slot_id = s.id and o.ended_at is null and o.state <> 'promised') as fits
            from claim c join booking k on k.request_id = c.request_id and k.slot_id = c.slot_id and k.state = 'promised'
                and k.ended_at is null
            join slot s on s.id = c.slot_id
            where c.kind = 'tell'
        ), stays as (
            update booking b set version = b.version + 1,
                slot_version = case when c.kind = 'tell' then s.version else b.slot_version end,
                state = case when c.kind = 'tell' then told_state(s.source) else 'promised' end,
                firm_at = case when c.kind = 'tell' and told_state(s.source) = 'firm' then p_now end,
                hold_until = case when c.kind = 'tell' and told_state(s.source) = 'held' then hold_end(p_now, c.request_id, s.starts) end
            from claim c join slot s on s.id = c.slot_id and s.status = 'open' and s.starts > p_now
            where c.kind in ('promise', 'tell') and b.request_id = c.request_id and b.slot_id = c.slot_id
              and b.state = 'promised' and b.ended_at is null
              and (c.kind = 'promise' or c.request_id in (select q.request_id from seated q where q.fits))
            returning b.id, b.request_id, b.state
        ), done as (
            update request r set status = t.state, version = r.version + 1, decision = c.decision::json,
                told_by = least(r.told_by, c.told_by)
            from stays t join claim c on c.request_id = t.request_id and c.kind in ('promise', 'tell')
            where r.id = t.request_id
        ) select coalesce(array_agg(request_id), '{}'), array_agg(id) filter (where state = 'firm'),
            coalesce(array_agg(request_id) filter (where state = 'held'), '{}')
        from stays into stayed, firm, booked_there;
        movers := array(select distinct r.id from unnest(p_requests, p_slots, p_kinds) c(request_id, slot_id, kind)
            join request r on r.id = c.request_id and r.status = 'promised'
            where c.kind in ('promise', 'tell') and c.slot_id is not null and r.id <> all(stayed));
    end if;
    while movers <> '{}' loop
        begin
            update booking set state = 'moved', ended_at = p_now, end_reason = 'moved', version = version + 1
            where request_id = any(movers) and state = 'promised' and ended_at is null;
            won := take_seats(p_now, p_requests, p_slots, p_bookings, p_hold_until, p_kinds, movers);
            lost := array(select m from unnest(movers) m
                where not exists (select from unnest(won) w where w.request_id = m));
            -- back to before the seats were given back
            if lost <> '{}' then raise exception 'seat_lost' using errcode = 'SAS03'; end if;
            exit;
        exception when sqlstate 'SAS03' then
            won := null;
            movers := array(select m from unnest(movers) m where m <> all(lost));
        end;
    end loop;
    if won is null then
        won := take_seats(p_now, p_requests, p_slots, p_bookings, p_hold_until, p_kinds, movers);
    end if;
    if won <> '{}' then
        update request r set
            status = w.state,
            version = r.version + 1, booking_id = c.booking_id, decision = c.decision::json,
            promised_at = case when c.kind = 'promise' then coalesce(r.promised_at, p_now) else r.promised_at end,
            -- what was said stands: a later seat does not put it off
            told_by = case when c.kind = 'promise' then least(r.told_by, c.hold_until) else r.told_by end,
            moves = r.moves + (r.id = any(movers))::int
        from unnest(won) w join unnest(p_bookings, p_hold_until, p_decisions, p_kinds) c(booking_id, hold_until, decision, kind)
            on c.booking_id = w.booking_id
        where r.id = w.request_id;
    end if;
    if 'none' = any(p_kinds) then
        with none as (
            update request r set decision = c.decision::json, version = r.version + 1
            from unnest(p_requests, p_decisions, p_kinds) c(request_id, decision, kind)
            where c.kind = 'none' and r.id = c.request_id and r.status = 'waiting'
            returning r.id
        )
        select array_agg(id) from none into told;
    end if;
    if plain and cardinality(won) + coalesce(cardinality(told), 0) = cardinality(p_requests) then
        -- everybody got what was wanted
        verdicts := array_replace(array_replace(p_kinds, 'hold', 'held'), 'none', 'told');
    else
        select array_agg(case
                when c.kind = 'displace' then case when c.id = any(displaced) then 'displaced' else 'not_waiting' end
                when c.id = any(booked_there) then 'held'
                when c.id = any(stayed) then case when c.kind = 'tell' then 'told_firm' else 'promised' end
                when exists (select from unnest(won) w where w.request_id = c.id and w.state = 'held') then 'held'
                when exists (select from unnest(won) w where w.request_id = c.id) then case
                    when c.kind = 'tell' then 'told_firm'
                    when c.id = any(movers) then 'moved' else 'promised' end
                when c.id = any(told) then 'told'
                when (r.status = 'waiting' and c.kind <> 'tell') or (r.status = 'promised' and c.kind in ('promise', 'tell'))
                    then 'seat_lost'
                else 'not_waiting' end order by c.n)
        from unnest(p_requests, p_kinds) with ordinality c(id, kind, n) left join request r on r.id = c.id into verdicts;
    end if;
    if 'seat_lost' = any(verdicts) and exists (select from practice_limit) then
        verdicts := array(
            with over_slots as materialized (select * from limits_over(p_slots)), lost as (
                select c.n, o.limit_id, o.starts
                from unnest(verdicts, p_requests, p_slots) with ordinality c(verdict, id, slot_id, n)
                join request r on r.id = c.id join over_slots o on o.slot_id = c.slot_id
                    and (o.closes or (o.counts = 'children' and is_child(r)))
                where c.verdict = 'seat_lost'
            ), reached as materialized (
                select limit_id, starts from (select distinct limit_id, starts from lost) d where limit_left(limit_id, starts) = 0
            )
            select case when c.n = any(array(select l.n from lost l join reached using (limit_id, starts))) then 'limit_reached'
                        else c.verdict end
            from unnest(verdicts) with ordinality c(verdict, n) order by c.n);
    end if;
    -- what was written is shown: the place and the alternatives (each as text, '{1,2}')
    if '{}' <> any(p_shown) then
        insert into exposure (at, channel, key_id, slots, rules)
        select p_now, 'proposed', r.key_id, e.slots, e.rules
        from unnest(p_requests, p_shown, verdicts) c(request_id, shown, verdict)
        join request r on r.id = c.request_id
        cross join lateral (
            select array_agg(s.id) as slots, array_agg(coalesce(s.rule, '')) as rules
            from (select k.id, k.rule from slot k where k.id = any(c.shown::bigint[]) order by k.id) s) e
        where c.verdict in ('held', 'told_firm', 'told') and e.slots is not null;
    end if;
    booked_there := booked_there || array(select w.request_id from unnest(won) w where w.state = 'held');
    if booked_there <> '{}' then
        published := coalesce(published, '{}')
            || array(select o from tell_regulators(p_now, booked_there, 'request.held') o);
    end if;
    if told is not null then
        published := coalesce(published, '{}') || array(select o from tell_regulators(p_now, told, 'request.waiting') o);
    end if;
    if not plain then
        firm := firm || array(select w.booking_id from unnest(won) w where w.state = 'firm');
        published := coalesce(published, '{}')
            -- a move is silent: the regulator was promised a time, not a place
            || coalesce((select array_agg(o) from tell_regulators(p_now, array(select w.request_id from unnest(won) w
                   where w.state = 'promised' and w.request_id <> all(movers)), 'request.promised') o), '{}')
            || coalesce((select array_agg(o) from tell_regulators(
                   p_now, array(select request_id from booking where id = any(firm)), 'request.told') o), '{}')
            || coalesce((select array_agg(o) from announce_bookings(p_now, firm) o), '{}');
    end if;
    published := coalesce(published, '{}') || array(select o from announce_states(p_now, p_slots || left_slots) o);
    if exists (select from slot where id = any(p_slots) and status <> 'open') then
        -- whoever still believed in a place that was withdrawn hears of it again
        published := published || array(select o from announce_gone(
            p_now, array(select id from slot where id = any(p_slots) and status <> 'open')) o);
    end if;
end $$;

-- Confirm a hold. outcome: 'firm' | 'already' | 'hold_ended' | 'conflict' | 'not_found'.
create function confirm_hold(p_now timestamptz, p_key_id text, p_request uuid, p_booking uuid,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request; b booking;
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    select * from booking where id = coalesce(p_booking, r.booking_id) and request_id = p_request into b;
    if b.state = 'firm' and r.status = 'firm' then outcome := 'already';
    elsif b.id is null or r.status <> 'held' or b.id <> r.booking_id then
        outcome := case when r.status in ('lapsed', 'waiting', 'held') or (r.status = 'promised' and b.hold_until is not null)
                        then 'hold_ended' else 'conflict' end;
    -- the deadline is judged here, whatever the sweeper has done
    elsif b.hold_until <= p_now then outcome := 'hold_ended';
    else
        update booking set state = 'firm', firm_at = p_now, version = version + 1 where id = b.id and state = 'held';
        update request set status = 'firm', version = version + 1, promise_behind = false where id = r.id;
        outcome := 'firm';
        published := (select array_agg(o) from announce_requests(p_now, array[r.id], null) o)
            || (select array_agg(o) from announce_bookings(p_now, array[b.id]) o);
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;

-- Give a seat back and say what becomes of the request. p_state: how the booking ends; p_status: what the request is
-- then; p_exclude: what must never be offered to it again. A promise that ends so is counted: against the engine when it
-- was displaced, else against the practice that took the seat away. The caller has locked the request and checked the state.
create function release_booking(p_now timestamptz, p_booking uuid, p_state text, p_reason text, p_status text, p_exclude text[])
returns setof outbox language plpgsql as $$
declare b booking;
begin
    perform lock_places(array(select slot_id from booking where id = p_booking));
    update booking set state = p_state, ended_at = p_now, end_reason = p_reason, version = version + 1
    where id = p_booking and ended_at is null returning * into b;
    if not found then return; end if;
    update request set status = case when p_status = 'waiting' and deadline <= p_now then 'unserved' else p_status end,
        version = version + 1, booking_id = null, excluded = excluded || p_exclude, promise_behind = false,
        told_by = case when p_status = 'waiting' then null else told_by end,
        broken = broken + (p_state = 'displaced')::int,
        refused_for = case when p_state in ('refused', 'withdrawn') then p_reason else refused_for end,
        refused_at = case when p_state in ('refused', 'withdrawn') then p_now else refused_at end,
        lost_to_practice = lost_to_practice
            + (p_state in ('refused', 'withdrawn') and (status = 'promised' or promise_behind))::int
    where id = b.request_id;
    -- the practice hears of a booking only once it was firm
    if b.firm_at is not null then
        return query select * from announce_bookings(p_now, array[b.id]);
    end if;
    return query select * from announce_states(p_now, array[b.slot_id]);
end $$;

-- Decline a hold: the next one, never the same again. p_scope: 'slot' or 'professional'. Whoever declines the place that
-- he had chosen in the stead of a promise gives up its seat: the request waits and is decided anew at once.
-- p_scope 'gone': its editor has it no more (a phantom, counted as such): nobody is offered it until the editor proves it free.
create function decline_hold(p_now timestamptz, p_key_id text, p_request uuid, p_booking uuid, p_scope text,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request; b booking; s slot;
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    select * from booking where id = coalesce(p_booking, r.booking_id) and request_id = p_request into b;
    if b.id is null or r.status <> 'held' or b.id <> r.booking_id or b.hold_until <= p_now then
        outcome := case when r.status in ('lapsed', 'waiting', 'held') or (r.status = 'promised' and b.hold_until is not null)
                        then 'hold_ended' else 'conflict' end;
    else
        select * from slot where id = b.slot_id into s;
        if p_scope = 'gone' and told_state(s.source) = 'held' then
            published := (select array_agg(o) from release_booking(
                p_now, b.id, 'refused', 'phantom', 'waiting', array['s' || s.id]) o);
            update slot set status = 'withdrawn', changed_at = p_now, valid_at = greatest(valid_at, p_now),
                version = nextval('change_seq')
            where id = s.id and status = 'open';
            if found then
                published := published || (select array_agg(o) from announce_gone(p_now, array[s.id]) o);
            end if;
        else
            published := (select array_agg(o) from release_booking(p_now, b.id, 'declined', 'declined', 'waiting',
                case when p_scope = 'professional' and s.professional is not null
                     then array['s' || s.id, 'p' || s.professional] else array['s' || s.id] end) o);
        end if;
        published := published || (select array_agg(o) from announce_requests(p_now, array[r.id], 'request.reopened') o);
        outcome := 'declined';
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;

-- Cancel a request in any open state; its place goes back. Once a firm place has begun ('begun') its practice says what
-- became of it.
create function cancel_request(p_now timestamptz, p_key_id text, p_request uuid, p_reason text,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request;
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    if r.status = 'cancelled' then outcome := 'already';
    elsif r.status not in ('waiting', 'promised', 'held', 'firm', 'lapsed') then outcome := 'conflict';
    elsif r.status = 'firm' and exists (
        select from booking b join slot s on s.id = b.slot_id where b.id = r.booking_id and s.starts <= p_now) then
        outcome := 'begun';
    else
        if r.booking_id is not null then
            published := (select array_agg(o)
                from release_booking(p_now, r.booking_id, 'cancelled', p_reason, 'cancelled', '{}') o);
        else
            update request set status = 'cancelled', version = version + 1 where id = r.id;
        end if;
        published := coalesce(published, '{}') || (select array_agg(o) from announce_requests(p_now, array[r.id], null) o);
        outcome := 'cancelled';
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;

-- Open a lapsed request again: the regulator is back on the line.
create function resume_request(p_now timestamptz, p_key_id text, p_request uuid,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request;
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    if r.status = 'held' then
        -- whether the hold still stands is judged here, whatever the sweeper has done
        select array_agg(o) from lapse_holds(p_now, array(select slot_id from booking where id = r.booking_id), 100) o
        into published;
        select * from request where id = p_request into r;
    end if;
    if r.status <> 'lapsed' or r.deadline <= p_now then outcome := 'conflict';
    else
        update request set status = 'waiting', version = version + 1 where id = r.id;
        published := published || (select array_agg(o) from announce_requests(p_now, array[r.id], 'request.reopened') o);
        outcome := 'waiting';
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;

-- Hand an open request, with its place or promise, to another regulator's key (p_to, which the caller has checked): from
-- here on it is theirs alone. Both hear of it. outcome: 'handed' | 'already' | 'conflict' | 'not_found'.
create function hand_request(p_now timestamptz, p_key_id text, p_request uuid, p_to text,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request;
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    if p_to = p_key_id then outcome := 'already';
    elsif r.status not in ('waiting', 'promised', 'held', 'firm', 'lapsed') then outcome := 'conflict';
    else
        update request set key_id = p_to, version = version + 1 where id = r.id;
        with told as (
            insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
            select p_now, q.territory, 'events', 'request.handed', q.id::text, q.version, p_to, array['k:' || p_key_id],
                   request_json(q)::text
            from request q where q.id = r.id returning *
        ) select array_agg(t::outbox) from told t into published;
        outcome := 'handed';
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;

-- The regulator picks a place himself (an alternative, or from the list): take the new one, then free the old one, in
-- one transaction; the original is kept when the new one is gone. Picking the place that is held already changes nothing.
-- Of a promise this moves the seat and holds it: the promise ends when the hold is confirmed and returns when it runs out.
-- outcome: 'held' | 'slot_full' | 'limit_reached' | 'conflict' | 'not_found'.
create function take_place(p_now timestamptz, p_key_id text, p_request uuid, p_slot bigint, p_booking uuid,
    p_hold_until timestamptz, p_decision text, out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request; s slot; kept booking; freed bigint; due constant bigint[] := due_under_limits(p_now, array[p_slot]);
begin
    select * from request where id = p_request and key_id = p_key_id into r for update;
    if not found then outcome := 'not_found'; return; end if;
    if r.status not in ('waiting', 'promised', 'held', 'lapsed') or r.deadline <= p_now then outcome := 'conflict';
    elsif exists (select from booking where id = r.booking_id and slot_id = p_slot and state = 'held' and hold_until > p_now)
    then outcome := 'held';
    else
        perform lock_places(array(select w.id from with_siblings(array_remove(
            array[p_slot, (select slot_id from booking where id = r.booking_id and ended_at is null)], null) || due) w));
        select array_agg(o) from lapse_holds(p_now, p_slot || due, 100) o into published;
        -- that may have been this request's own hold, and a promise has come back
        select * from request where id = p_request into r;
        select * from slot where id = p_slot into s;
        begin
            update booking set state = 'replaced', ended_at = p_now, end_reason = 'other_place', version = version + 1
            where id = r.booking_id and ended_at is null and (slot_id <> p_slot or state = 'promised') returning * into kept;
            freed := kept.slot_id;
            insert into booking (id, request_id, slot_id, seat, territory, professional, during, state, slot_version,
                held_at, hold_until, acceptance, rule)
            select p_booking, p_request, s.id,
                   (select g from generate_series(0, s.capacity - 1) g
                    where not exists (select from booking b where b.slot_id = s.id and b.seat = g and b.ended_at is null)
                    order by g limit 1),
                   s.territory, s.professional,
                   case when s.capacity = 1 and s.professional is not null then tstzrange(s.starts, s.ends) end,
                   'held', s.version, p_now, least(p_hold_until, s.starts), s.acceptance, coalesce(s.rule, '')
            where s.status = 'open' and s.starts > p_now and s.starts <= r.deadline
              and coalesce(s.for_request = r.id, true) and s.handed_back is null
              and not s.shut and (coalesce(s.own_until <= p_now, true) or s.professional = r.mt)
              and (select count(*) from booking b where b.slot_id = s.id and b.ended_at is null) < s.capacity
            on conflict do nothing;
            if not found then raise exception 'slot_full' using errcode = 'SAS02'; end if;
            -- counted with the booking itself
            if one_too_many(r, p_slot, kept.slot_id) then
                raise exception 'limit_reached' using errcode = 'SAS04';
            end if;
            update request set status = 'held', version = version + 1, booking_id = p_booking, decision = p_decision::json,
                promise_behind = promise_behind or status = 'promised',
                moves = moves + (kept.slot_id <> p_slot and (promise_behind or status = 'promised'))::int
            where id = p_request;
            outcome := 'held';
            published := coalesce(published, '{}')
                || (select array_agg(o) from announce_requests(p_now, array[p_request], null) o)
                || (select array_agg(o) from announce_states(p_now, array_remove(array[p_slot, freed], null)) o);
        exception
            when sqlstate 'SAS02' then outcome := 'slot_full';
            when sqlstate 'SAS04' then outcome := 'limit_reached';
        end;
    end if;
    select request_json(q) from request q where q.id = p_request into document;
end $$;
