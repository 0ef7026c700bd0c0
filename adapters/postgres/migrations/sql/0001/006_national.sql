-- What the national platform is told of our bookings (INT_R03): queued in the transaction of the change, one ordered
-- queue a booking. Nothing is queued unless the link is on.

create table national_link (one boolean primary key default true check (one), since timestamptz not null);

-- As whom the platform knows the holder of a regulator's key (INT_R02).
create table key_operator (
    key_id text primary key references api_key (id),
    system text not null,
    value  text not null
);

create table appointment_message (
    id            bigint generated always as identity primary key,
    booking_id    uuid not null references booking (id),
    number        int not null,
    status        text not null check (status in ('booked', 'pending', 'cancelled', 'fulfilled', 'noshow')),
    territory     text not null,
    key_id        text not null,
    -- bare RPPS; null on a site of SOS Médecins whose doctor is not known
    professional  text,
    sos           boolean not null,
    starts        timestamptz not null,
    ends          timestamptz not null,
    booked_at     timestamptz not null,
    -- impossible: outside SOS the profile cannot say a booking without a named professional
    state         text not null check (state in ('waiting', 'sent', 'refused', 'impossible')),
    tries         int not null default 0,
    next_at       timestamptz not null default 'epoch',
    -- whoever sends it now has it until then; tries is the fence of a sender that was paused
    claimed_until timestamptz,
    settled_at    timestamptz,
    last_error    text,
    -- where the platform keeps it
    remote        text,
    unique (booking_id, number)
);
create index appointment_message_due on appointment_message (next_at, id) where state = 'waiting';
create index appointment_message_waiting on appointment_message (booking_id, number) where state = 'waiting';
create index appointment_message_newest on appointment_message (state, id desc);

create function queue_appointment() returns trigger language plpgsql as $$
declare told text; known boolean;
begin
    if not exists (select from national_link) then return null; end if;
    known := exists (select from appointment_message m where m.booking_id = new.id);
    told := case new.state when 'firm' then 'booked' when 'fulfilled' then 'fulfilled' when 'noshow' then 'noshow'
        else 'cancelled' end;
    -- what the platform never heard of (booked before the link was on) need not be cancelled there
    if told <> 'booked' and not known then return null; end if;
    -- of a named professional the profile knows no "pending": it is told once the practice has accepted
    if told = 'booked' and new.acceptance = 'explicit' and new.accepted_at is null then return null; end if;
    insert into appointment_message (booking_id, number, status, territory, key_id, professional, sos, starts, ends,
        booked_at, state)
    select new.id, (select count(*) + 1 from appointment_message m where m.booking_id = new.id),
        case when told = 'booked' and s.professional is null then 'pending' else told end,
        s.territory, r.key_id, s.professional, s.source_kind = 'sos', s.starts, s.ends, new.firm_at,
        case when s.professional is null and s.source_kind <> 'sos' then 'impossible' else 'waiting' end
    -- a place that another editor published is booked there: that editor tells it
    from slot s, request r where s.id = new.slot_id and r.id = new.request_id and s.source not like 'fhir:%';
    return null;
end $$;

-- The conditions cost nothing to the many changes that are no news to the platform (holds, promises).
create trigger booking_firm_at_once after insert on booking for each row when (new.firm_at is not null)
    execute function queue_appointment();
create trigger booking_changed after update of state, slot_id, accepted_at on booking for each row
    when (new.firm_at is not null and (new.state, new.slot_id) is distinct from (old.state, old.slot_id)
          or new.acceptance = 'explicit' and new.accepted_at is distinct from old.accepted_at)
    execute function queue_appointment();

-- Take the oldest message of each booking that is due, and nobody's: it is the caller's until p_until.
create function claim_messages(p_now timestamptz, p_until timestamptz, p_limit int) returns setof appointment_message
language sql as $$
    update appointment_message m set claimed_until = p_until, tries = m.tries + 1
    from (
        select d.id from appointment_message d
        where d.state = 'waiting' and d.next_at <= p_now and (d.claimed_until is null or d.claimed_until <= p_now)
          and not exists (select from appointment_message e
                          where e.booking_id = d.booking_id and e.number < d.number and e.state = 'waiting')
        order by d.next_at, d.id limit p_limit for update skip locked) due
    where m.id = due.id
    returning m.*
$$;
