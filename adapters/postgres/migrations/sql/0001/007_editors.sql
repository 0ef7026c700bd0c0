-- Places of the editors of agendas that we poll (source 'fhir:<editor>'), and what these editors tell of bookings (INT_R03).

-- What the sweep and the figures look for.
create index slot_of_editor on slot (source, starts) where status = 'open' and source like 'fhir:%';

-- The city of an arrondissement (Paris, Lyon, Marseille), any other commune itself: one says where a practitioner is by
-- arrondissement, another by city.
create function city_of(insee text) returns text language sql immutable as $$
    select case when insee between '75101' and '75120' then '75056' when insee between '69381' and '69389' then '69123'
        when insee between '13201' and '13216' then '13055' else insee end $$;

-- A booking as an editor told it last.
create table editor_appointment (
    system       text not null,
    value        text not null,
    -- our name of it, in its Location
    id           uuid not null unique,
    source       text not null,
    status       text not null,
    professional text,
    starts       timestamptz not null,
    ends         timestamptz not null,
    -- the place it closes, and the booking of ours that it is
    slot_id      bigint references slot (id),
    booking_id   uuid references booking (id),
    told_at      timestamptz not null,
    primary key (system, value)
);

-- Take in what an editor tells of a booking. p_sources: those of the editor that speaks. The place that we hold for a
-- regulator is firm with it, a free one is closed; cancelled there, the request waits again.
-- outcome: 'created' | 'changed' | 'other_editor' (the identifier is another editor's).
create function take_appointment(
    p_now timestamptz, p_sources text[], p_new_id uuid, p_system text, p_value text, p_status text, p_professional text,
    p_starts timestamptz, p_ends timestamptz, out outcome text, out id uuid, out published outbox[])
language plpgsql as $$
declare a editor_appointment; places bigint[]; b booking; r request;
begin
    insert into editor_appointment (system, value, id, source, status, professional, starts, ends, told_at)
    values (p_system, p_value, p_new_id, p_sources[1], p_status, p_professional, p_starts, p_ends, p_now)
    on conflict do nothing;
    outcome := case when found then 'created' else 'changed' end;
    select * from editor_appointment e where e.system = p_system and e.value = p_value into a for update;
    id := a.id;
    if a.source <> all(p_sources) then outcome := 'other_editor'; return; end if;
    -- a slot of several consultation types is several places
    places := array(select s.id from slot s
        where s.source = any(p_sources) and s.professional is not distinct from p_professional
        -- bookings are told to the second, slots to the millisecond
          and s.starts >= date_trunc('second', p_starts) and s.starts < date_trunc('second', p_starts) + interval '1 second'
        -- a site without a named doctor has many places at an hour: only the one that is held can be meant
          and (p_professional is not null or exists (
              select from booking k where k.slot_id = s.id and k.ended_at is null and k.state = 'held')));
    -- requests, then places: the lock order of every function here
    perform from request q where q.id in (
        select k.request_id from booking k
        where (k.slot_id = any(places) or k.id = a.booking_id) and k.ended_at is null) order by q.id for update;
    perform lock_places(places);
    if p_status in ('booked', 'pending') then
        select k.* from booking k where k.slot_id = any(places) and k.ended_at is null and k.state = 'held'
        order by k.held_at limit 1 into b;
        if b.id is not null then
            update booking k set state = 'firm', firm_at = p_now, version = k.version + 1 where k.id = b.id;
            update request q set status = 'firm', version = q.version + 1, promise_behind = false where q.id = b.request_id;
            published := (select array_agg(o) from announce_requests(p_now, array[b.request_id], null) o)
                || (select array_agg(o) from announce_bookings(p_now, array[b.id]) o);
            a.booking_id := b.id;
            a.slot_id := b.slot_id;
        elsif p_professional is not null then
            -- booked there without us: seats behind promises move, the place is gone
            published := (select array_agg(o) from refuse_bookings(p_now, array(
                select k.id from booking k where k.slot_id = any(places) and k.ended_at is null and k.state = 'promised'),
                'withdrawn', 'booked_at_editor') o);
            with closed as (
                -- an answer that was asked for before does not open it again
                update slot s set status = 'withdrawn', changed_at = p_now, valid_at = greatest(s.valid_at, p_now),
                    version = nextval('change_seq')
                where s.id = any(places) and s.status = 'open'
                  and not exists (select from booking k where k.slot_id = s.id and k.ended_at is null)
                returning s.id
            ) select array_agg(c.id) from closed c into places;
            if places is not null then
                published := coalesce(published, '{}') || (select array_agg(o) from announce_gone(p_now, places) o);
            end if;
            a.slot_id := coalesce(a.slot_id, places[1]);
        end if;
    elsif a.booking_id is not null then
        if p_status = 'cancelled' then
            published := (select array_agg(o) from refuse_bookings(
                p_now, array[a.booking_id], 'refused', 'cancelled_at_editor') o);
        else
            select t.published from set_outcome(p_now, a.booking_id, p_status) t into published;
        end if;
    end if;
    update editor_appointment e set status = p_status, professional = p_professional, starts = p_starts, ends = p_ends,
        slot_id = a.slot_id, booking_id = a.booking_id, told_at = p_now
    where e.system = p_system and e.value = p_value;
end $$;
