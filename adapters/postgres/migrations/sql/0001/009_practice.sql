-- What a practice does with the bookings it has, and what time does for it: acceptance with a deadline, patients cancelled
-- or moved by it, plages counted, unused places handed back.

-- Until when a booking that has become firm is to be accepted: the practice's minutes, but never more than half of the
-- time that is left before it starts: the other half is for finding another place, and for the way there.
create function set_acceptance() returns trigger language plpgsql as $$
begin
    new.accept_until := (
        select new.firm_at + greatest(interval '0', least(make_interval(mins => s.accept_min), (s.starts - new.firm_at) / 2))
        from slot s where s.id = new.slot_id and s.accept_min is not null);
    -- the practice asks for it no more
    if new.accept_until is null then new.acceptance := null; end if;
    return new;
end $$;

-- Whichever way it became firm; the condition costs nothing to bookings that nobody need accept.
create trigger booking_accepted_on_insert before insert on booking for each row
    when (new.firm_at is not null and new.acceptance is not null) execute function set_acceptance();
create trigger booking_accepted_on_firm before update of firm_at on booking for each row
    when (new.firm_at is not null and old.firm_at is null and new.acceptance is not null) execute function set_acceptance();

-- Write that a practice accepts some firm bookings, and tell it and their regulators. The caller holds the requests.
create function note_accepted(p_now timestamptz, p_bookings uuid[]) returns setof outbox language plpgsql as $$
declare told uuid[];
begin
    with done as (
        update booking set accepted_at = p_now, version = version + 1 where id = any(p_bookings) returning request_id
    ), noted as (
        update request set version = version + 1 where id in (select request_id from done) returning id
    ) select array_agg(id) from noted into told;
    return query select * from tell_regulators(p_now, told, 'request.accepted');
    return query select * from announce_bookings(p_now, p_bookings, 'booking.accepted');
end $$;

-- The practice accepts a booking. outcome: 'accepted' | 'already' | 'accept_ended' | 'conflict' | 'not_found'.
create function accept_booking(p_now timestamptz, p_booking uuid, out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare b booking;
begin
    perform from request r where r.id = (select request_id from booking where id = p_booking) for update;
    select * from booking where id = p_booking into b;
    if b.firm_at is null then outcome := 'not_found'; return; end if;
    if b.ended_at is not null then
        outcome := case when b.end_reason = 'not_accepted' then 'accept_ended' else 'conflict' end;
    elsif b.acceptance is null or b.accepted_at is not null then outcome := 'already';
    -- the deadline is judged here, whatever the sweeper has done
    elsif b.acceptance = 'explicit' and b.accept_until <= p_now then outcome := 'accept_ended';
    else
        published := (select array_agg(o) from note_accepted(p_now, array[b.id]) o);
        outcome := 'accepted';
    end if;
    select booking_json(k) from booking k where k.id = p_booking into document;
end $$;

-- Bookings whose acceptance is over: silence accepts (tacit), or the request is matched again at once (explicit). Nobody
-- looks at an individual hour that went unanswered: it is taken off; a plage stays. Returns outbox rows.
create function settle_acceptance(p_now timestamptz, p_limit int) returns setof outbox language plpgsql as $$
declare due uuid[]; silent uuid[]; unanswered uuid[];
begin
    with over as (
        select b.request_id from booking b
        where b.state = 'firm' and b.accept_until <= p_now and b.accepted_at is null
        order by b.accept_until limit p_limit
    ), locked as (
        select r.id from request r where r.id in (select request_id from over) and r.status = 'firm'
        order by r.id for update skip locked
    )
    select array_agg(id) from locked into due;
    if due is null then return; end if;
    select array_agg(b.id) filter (where b.acceptance = 'tacit'), array_agg(b.id) filter (where b.acceptance = 'explicit')
    from booking b
    where b.request_id = any(due) and b.state = 'firm' and b.ended_at is null and b.accept_until <= p_now
      and b.accepted_at is null
    into silent, unanswered;
    if silent is not null then
        return query select * from note_accepted(p_now, silent);
    end if;
    if unanswered is not null then
        return query select * from refuse_bookings(p_now, unanswered, 'refused', 'not_accepted');
        return query select * from take_off(p_now, array(
            select s.id from booking b join slot s on s.id = b.slot_id where b.id = any(unanswered) and s.capacity = 1));
    end if;
end $$;

-- The patient told the practice that he does not come: the request is over, the place is free for others unless p_keep
-- is false. outcome: 'cancelled' | 'already' | 'begun' (say whether the patient came) | 'conflict' | 'not_found'.
create function cancel_booking(p_now timestamptz, p_booking uuid, p_reason text, p_keep boolean,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare b booking;
begin
    perform lock_requests_of(p_booking, not p_keep);
    select * from booking where id = p_booking into b;
    if b.firm_at is null then outcome := 'not_found'; return; end if;
    if b.state = 'cancelled' then outcome := 'already';
    elsif b.state <> 'firm' then outcome := 'conflict';
    elsif exists (select from slot where id = b.slot_id and starts <= p_now) then outcome := 'begun';
    else
        published := (select array_agg(o) from release_booking(p_now, b.id, 'cancelled', p_reason, 'cancelled', '{}') o)
            || (select array_agg(o) from announce_requests(p_now, array[b.request_id], null) o);
        if not p_keep then
            published := published || coalesce((select array_agg(o) from take_off(p_now, array[b.slot_id]) o), '{}');
        end if;
        outcome := 'cancelled';
    end if;
    select booking_json(k) from booking k where k.id = p_booking into document;
end $$;

-- The practice moves a patient, with his consent, to another of its open hours: one transaction takes the new seat and frees
-- the old one; when the new one is gone the old one stays. The booking stays the same. The caller has checked whose the
-- slot is.
-- outcome: 'moved' | 'already' | 'slot_full' | 'limit_reached' | 'late_for_patient' (after the request's deadline) | 'begun' |
-- 'at_editor' (one of both is in another editor's agenda) | 'conflict' | 'not_found'.
create function move_booking(p_now timestamptz, p_booking uuid, p_slot bigint,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare b booking; r request; s slot; due constant bigint[] := due_under_limits(p_now, array[p_slot]);
begin
    select q.* from request q where q.id = (select request_id from booking where id = p_booking) into r for update;
    select * from booking where id = p_booking into b;
    if b.firm_at is null then outcome := 'not_found'; return; end if;
    if b.state <> 'firm' then outcome := 'conflict';
    elsif b.slot_id = p_slot then outcome := 'already';
    elsif exists (select from slot where id = b.slot_id and starts <= p_now) then outcome := 'begun';
    -- another editor's agenda would not know of it
    elsif exists (select from slot where id in (b.slot_id, p_slot) and told_state(source) = 'held') then outcome := 'at_editor';
    else
        perform lock_places(array(select w.id from with_siblings(array[p_slot, b.slot_id] || due) w));
        published := coalesce((select array_agg(o) from lapse_holds(p_now, array[p_slot] || due, 100) o), '{}');
        select * from slot where id = p_slot into s;
        if s.starts > r.deadline then outcome := 'late_for_patient';
        else
            begin
                update booking k set slot_id = s.id, territory = s.territory, professional = s.professional,
                    seat = (select g from generate_series(0, s.capacity - 1) g
                        where not exists (select from booking o where o.slot_id = s.id and o.seat = g and o.ended_at is null)
                        order by g limit 1),
                    during = case when s.capacity = 1 and s.professional is not null then tstzrange(s.starts, s.ends) end,
                    slot_version = s.version, version = k.version + 1,
                    -- who chose the hour has accepted it
                    accepted_at = case when k.acceptance is not null then coalesce(k.accepted_at, p_now) end
                -- its practice may also use an hour that was handed back to it
                where k.id = b.id and s.status = 'open' and s.starts > p_now and s.for_request is null
                  and s.profession = r.profession and s.offers @> r.needs
                  and (select count(*) from booking o where o.slot_id = s.id and o.ended_at is null) < s.capacity;
                if not found then raise exception 'slot_full' using errcode = 'SAS02'; end if;
                if one_too_many(r, s.id, b.slot_id) then
                    raise exception 'limit_reached' using errcode = 'SAS04';
                end if;
                update request set version = version + 1 where id = r.id;
                outcome := 'moved';
                published := published
                    || (select array_agg(o) from tell_regulators(p_now, array[r.id], 'request.moved') o)
                    || (select array_agg(o) from announce_bookings(p_now, array[b.id], 'booking.moved', b.slot_id) o)
                    || (select array_agg(o) from announce_states(p_now, array[b.slot_id, s.id]) o);
            exception
                when sqlstate 'SAS02' or unique_violation or exclusion_violation then outcome := 'slot_full';
                when sqlstate 'SAS04' then outcome := 'limit_reached';
            end;
        end if;
    end if;
    select booking_json(k) from booking k where k.id = p_booking into document;
end $$;

-- Give back what is unused of the slots whose hour for it has come: nobody is proposed it any more. A seat that somebody
-- has, or is promised, stays his; when it is freed after all it goes back as well (tell_handed_back). Returns outbox rows.
create function hand_back(p_now timestamptz, p_limit int) returns setof outbox language plpgsql as $$
declare due bigint[];
begin
    due := array(select id from slot where status = 'open' and back_at <= p_now and handed_back is null
                 order by back_at limit p_limit);
    if due = '{}' then return; end if;
    perform lock_places(due);
    with back as (
        update slot set handed_back = 0 where id = any(due) and status = 'open' and back_at <= p_now and handed_back is null
        returning id
    ) select array_agg(id) from back into due;
    if due is null then return; end if;
    return query select * from announce_states(p_now, due);
end $$;

-- How full a slot is: seats that somebody has for sure, patients who came, patients who did not.
create function slot_counts(p_slot bigint, out taken int, out arrived int, out missed int) language sql stable as $$
    select count(*), count(*) filter (where b.state = 'fulfilled'), count(*) filter (where b.state = 'noshow')
    from booking b where b.slot_id = p_slot and b.ended_at is null and b.firm_at is not null
$$;

-- Count a plage, whose patients have no hour each: so many have come. p_over: the others did not. Bookings are taken in
-- order of their making: which patient it was nobody need know. May be corrected.
-- outcome: 'counted' | 'too_early' | 'too_many' (more than are expected) | 'not_found'; document: {slot_id, taken, arrived, missed}.
create function count_plage(p_now timestamptz, p_slot bigint, p_arrived int, p_over boolean,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare s slot; b record; wanted text;
begin
    select * from slot where id = p_slot into s;
    if not found then outcome := 'not_found'; return; end if;
    published := '{}';
    perform from request r where r.id in (select request_id from booking where slot_id = p_slot and ended_at is null)
    order by r.id for update;
    if s.starts > p_now then outcome := 'too_early';
    elsif p_arrived > (select c.taken from slot_counts(p_slot) c) then outcome := 'too_many';
    else
        for b in select k.id, k.state, k.request_id, row_number() over (order by k.firm_at, k.id) as n from booking k
                 where k.slot_id = p_slot and k.ended_at is null and k.firm_at is not null order by n loop
            wanted := case when b.n <= p_arrived then 'fulfilled' when p_over then 'noshow' else 'firm' end;
            continue when wanted = b.state;
            update booking set state = wanted, version = version + 1 where id = b.id;
            update request set status = wanted, version = version + 1 where id = b.request_id;
            published := published
                || (select array_agg(o) from announce_requests(p_now, array[b.request_id], null) o)
                || (select array_agg(o) from announce_bookings(p_now, array[b.id]) o);
        end loop;
        outcome := 'counted';
    end if;
    select json_build_object('slot_id', p_slot, 'capacity', s.capacity, 'taken', c.taken, 'arrived', c.arrived,
        'missed', c.missed) from slot_counts(p_slot) c into document;
end $$;
