-- name: record
-- The history of a ledger under test, written by triggers inside its own transactions. A number is drawn while the row
-- lock or unique row that decides is held, so the order of numbers is the order of decisions for each seat, request,
-- professional and slot; what was rolled back is not in it.
create table history (
    n            bigint generated always as identity,
    what         text not null,  -- take, firm, free, slot
    slot_id      bigint not null,
    seat         int,
    request_id   uuid,
    booking_id   uuid,
    professional text,
    during       tstzrange,
    until        timestamptz,
    at           timestamptz,
    capacity     int,
    status       text,
    territory    text
);
create function record_booking() returns trigger language plpgsql as $$
begin
    -- moved by its practice: one seat freed, another taken
    if tg_op = 'UPDATE' then
        if new.slot_id <> old.slot_id then
            insert into history (what, slot_id, seat, request_id, booking_id, professional, during, until, at)
            values ('free', old.slot_id, old.seat, old.request_id, old.id, old.professional, old.during, null, null),
                ('take', new.slot_id, new.seat, new.request_id, new.id, new.professional, new.during, null, null);
        end if;
    end if;
    insert into history (what, slot_id, seat, request_id, booking_id, professional, during, until, at)
    select k.what, new.slot_id, new.seat, new.request_id, new.id, new.professional, new.during, new.hold_until, new.firm_at
    from (values ('take', tg_op = 'INSERT'),
                 ('firm', tg_op = 'UPDATE' and new.state = 'firm' and old.state is distinct from 'firm'),
                 ('free', tg_op = 'UPDATE' and new.ended_at is not null and old.ended_at is null)) k(what, happened)
    where k.happened;
    return null;
end $$;
create trigger record_booking after insert or update on booking for each row execute function record_booking();
create function record_slot() returns trigger language plpgsql as $$
begin
    insert into history (what, slot_id, professional, during, capacity, status, territory)
    values ('slot', new.id, new.professional, tstzrange(new.starts, new.ends), new.capacity, new.status, new.territory);
    return null;
end $$;
create trigger record_slot after insert or update on slot for each row execute function record_slot();

-- name: history
select * from history order by n

-- name: audit
-- What must be empty at the end, from the tables alone.
select 'seat taken twice' as what, format('slot %s seat %s', slot_id, seat) as which from booking
where ended_at is null group by slot_id, seat having count(*) > 1
union all
select 'request with two places', request_id::text from booking where ended_at is null group by request_id having count(*) > 1
union all
select 'professional at two places', format('%s: %s and %s', a.professional, a.slot_id, b.slot_id)
from booking a join booking b on b.professional = a.professional and b.id > a.id
    and lower(a.during) < upper(b.during) and lower(b.during) < upper(a.during)
where a.ended_at is null and b.ended_at is null
union all
select 'booked time is not the slot''s', format('slot %s', s.id) from booking b join slot s on s.id = b.slot_id
where b.ended_at is null and b.during is not null and (lower(b.during), upper(b.during)) <> (s.starts, s.ends)
union all
select 'booked on a withdrawn slot', format('slot %s', s.id) from booking b join slot s on s.id = b.slot_id
where b.ended_at is null and s.status = 'withdrawn' and b.slot_version = s.version
union all
select 'request and booking disagree', format('%s is %s', r.id, r.status)
from request r left join booking b on b.request_id = r.id and b.ended_at is null
where r.booking_id is distinct from b.id or (b.id is not null and b.state <> r.status)
   or (b.id is null and r.status in ('held', 'firm', 'fulfilled', 'noshow'))
union all
-- of limits whose day is that of UTC, which is all that the tests set
select 'limit exceeded', format('%s on %s', l.name, date_trunc('day', s.starts)) from practice_limit l
join limit_member m on m.limit_id = l.id join slot s on m.member in ('p:' || s.professional, 's:' || s.structure)
join booking b on b.slot_id = s.id and b.ended_at is null
where l.counts = 'patients' and l.period = 'day' group by l.id, l.name, l.most, date_trunc('day', s.starts) having count(*) > l.most

-- name: firm
select id::text, request_id::text, ended_at is not null as ended from booking where firm_at is not null

-- name: seats
-- The truth that the mirror must come to: below zero where a practice offers fewer than are given.
select id, capacity - (select count(*)::int from booking b where b.slot_id = s.id and b.ended_at is null) as free,
    exists (select from booking b where b.ended_at is null and s.capacity = 1 and b.professional = s.professional
            and b.during && tstzrange(s.starts, s.ends)) as blocked,
    exists (select from practice_limit l join limit_member m on m.limit_id = l.id
            where m.member = 's:' || s.structure and l.most <= (
                select count(*) from booking b join slot o on o.id = b.slot_id
                where b.ended_at is null and o.structure = s.structure
                  and date_trunc('day', o.starts) = date_trunc('day', s.starts))) as closed
from slot s where status = 'open'
