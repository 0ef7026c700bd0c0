-- name: key
-- One API key by its public id.
select id, secret_hash, name, role, territories, structures, professionals, source, expires_at, revoked_at, ingest_hash
from api_key where id = $1

-- name: keys
-- All API keys, newest first.
select id, secret_hash, name, role, territories, structures, professionals, source, expires_at, revoked_at, ingest_hash
from api_key order by created_at desc, id

-- name: add_key
insert into api_key (id, secret_hash, name, role, territories, structures, professionals, source, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: revoke_key
update api_key set revoked_at = $2 where id = $1 and revoked_at is null returning id

-- name: allow_ingest
update api_key set ingest_hash = $2 where id = $1 and revoked_at is null returning id

-- name: settings
-- Settings of all territories that have changed any (a change that was refused leaves version 0 behind).
select setting_json(s)::text as document from territory_setting s where version > 0

-- name: setting_changes
-- The changes of a territory's setting, newest first; before (a version) pages backwards.
select setting_change_json(l)::text as document from territory_setting_log l
where territory = $1 and ($2::int is null or version < $2) order by version desc limit $3

-- name: request_document
-- What its regulator (or, key null, the service) sees of a request.
select request_json(r)::text from request r where id = $1 and ($2::text is null or key_id = $2)

-- name: requests_of_key
-- Requests of one key, newest first; status null means all, before pages backwards.
select request_json(r)::text as document from request r
where key_id = $1 and ($2::text[] is null or status = any($2)) and ($3::timestamptz is null or created_at < $3)
order by created_at desc limit $4

-- name: requests_at_hand
-- Requests of one key that are open, whose hold or deadline has passed since $2 at the earliest, or whose confirmed place
-- began since then; the open ones first, then by deadline. Nobody asks for more than 48 hours ahead, and a place taken by
-- hand is at most 72 hours away: older ones are not looked through.
select request_json(r)::text as document
from request r left join booking b on b.id = r.booking_id left join slot s on s.id = b.slot_id
where r.key_id = $1 and r.created_at > $2::timestamptz - interval '120 hours' and (r.status in ('waiting', 'promised', 'held')
    or r.status in ('lapsed', 'unserved') and r.deadline > $2 or r.status = 'firm' and s.starts > $2)
order by case r.status when 'firm' then 2 when 'lapsed' then 1 when 'unserved' then 1 else 0 end, r.deadline, r.id limit $3

-- name: request_for_choice
-- A request with what is needed to price a place the regulator chose himself.
select * from request where id = $1 and key_id = $2

-- name: waiting_requests
-- Requests of some territories that are the matcher's to decide: they wait, or the seat behind their promise may move.
select request_json(r)::text as document from request r
where status in ('waiting', 'promised') and deadline > $1 and territory = any($2)

-- name: calls_since
-- When requests of a territory were made, from an instant on: how busy the day is.
select created_at from request where territory = $2 and created_at >= $1 order by created_at

-- name: live_sites
-- What is said of the sites of live places, each once; its number is a hash with the seed $3.
select hash_record_extended(row(site.*), $3), site.*
from (
    select distinct s.territory, s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind,
        s.lat, s.lon, s.insee, s.label, s.phone
    from slot s
    where s.status = 'open' and s.for_request is null and s.starts > $1
      and ($2::text[] is null or s.territory = any($2))
) site

-- name: live_kinds
-- What live places offer and how, each combination once; numbered as sites are.
select hash_record_extended(row(kind.*), $3), kind.*
from (
    select distinct s.offers, s.specialty, s.profession, s.mode, s.booking_kind, s.source
    from slot s
    where s.status = 'open' and s.for_request is null and s.starts > $1
      and ($2::text[] is null or s.territory = any($2))
) kind

-- name: live_places
-- Live places with the seats left, as the matcher loads them: set-based, and packed as numbers (PLACE_NUMBERS), since
-- it takes a reader as long to make an object of each value as it takes us to find them. Bookings are found by their
-- slots, by index: firm ones never end, and there are as many as the ledger is old.
with live as materialized (
    select s.* from slot s
    where s.status = 'open' and s.for_request is null and s.starts > $1
      and ($2::text[] is null or s.territory = any($2))
), taken as (
    select slot_id, count(*)::int as seats from booking
    where ended_at is null and slot_id = any(array(select id from live)) group by slot_id
), busy as materialized (
    -- who is booked now or later, also in a slot that was taken back: slots last 24 hours at the most
    select professional, during from booking
    where ended_at is null and during is not null and upper(during) > $1
      and slot_id = any(array(select id from slot where starts > $1 - interval '24 hours' and capacity = 1))
), blocked as (
    select distinct o.id from busy b cross join lateral (
        select near.id from slot near
        where near.professional = b.professional and near.capacity = 1 and near.status = 'open' and near.starts > $1
          and near.starts < upper(b.during) and near.ends > lower(b.during)
          and near.starts > lower(b.during) - interval '24 hours'
        -- the index, booking by booking (see with_siblings)
        offset 0) o
), closed as (
    -- by limits that are reached
    select distinct s.id from limit_closed c join practice_limit l on l.id = c.limit_id
    cross join lateral slots_under(l, c.starts, period_end(l.period, l.zone, c.starts)) s
    where c.starts > $1 - interval '2 days' and (l.counts = 'patients' or s.mode = 'visite')
)
select array_send(array[
    s.id, floor(extract(epoch from s.starts))::bigint, floor(extract(epoch from s.ends))::bigint,
    case when blocked.id is not null then 0
        else least(s.capacity - coalesce(t.seats, 0), case when closed.id is not null or s.handed_back is not null or s.shut then 0 end)
        end, s.capacity, s.landmass, s.version, (s.own_until is not null)::int,
    hash_record_extended(row(s.territory, s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind,
        s.lat, s.lon, s.insee, s.label, s.phone), $3),
    hash_record_extended(row(s.offers, s.specialty, s.profession, s.mode, s.booking_kind, s.source), $3)
])
from live s left join taken t on t.slot_id = s.id left join blocked on blocked.id = s.id left join closed on closed.id = s.id

-- name: live_records
-- Live places of a territory as records, in the order of their numbers: desks that are opened anew must choose alike.
select s.id, s.version, floor(extract(epoch from s.starts))::bigint as start, place_left(s) as left, place_json(s)::text as record
-- found first and sorted then: in the order of their numbers PostgreSQL would read all that there ever were
from (select * from slot where status = 'open' and starts > $1 and territory = $2 offset 0) s
order by s.id

-- name: live_territories
select distinct territory from slot where status = 'open' and starts > $1

-- name: slot_record
select place_json(s)::text as record, place_left(s) as left, floor(extract(epoch from s.starts))::bigint as start,
    floor(extract(epoch from s.ends))::bigint as "end", status
from slot s where id = $1

-- name: slot_owner
select source, professional, structure from slot where id = $1

-- name: slots_of_source
-- What a source has published, by start.
select place_json(s)::text as record, greatest(0, place_left(s)) as left, status, (
        select json_build_object('taken', c.taken, 'held', k.held, 'promised', k.promised, 'arrived', c.arrived,
            'missed', c.missed, 'handed_back', s.handed_back)
        from slot_counts(s.id) c, (
            select count(*) filter (where b.state = 'held') as held, count(*) filter (where b.state = 'promised') as promised
            from booking b where b.slot_id = s.id and b.ended_at is null) k)::text as counts
from (
    -- found first, as above
    select * from slot
    where source = $1 and starts >= $2 and starts < $3
      and ($4::text[] is null or professional = any($4) or structure = any($5::text[])) and id > $6
    offset 0) s
order by id limit $7

-- name: offers
-- Live places of a profession inside a box and a horizon.
select place_json(s)::text as record, place_left(s) as left from slot s
where s.status = 'open' and s.profession = $1 and s.mode = any($2) and s.starts > $3 and s.starts <= $4
  and (s.mode = 'tele' or (s.lat between $5 and $6 and s.lon between $7 and $8))
  and ($9::text is null or s.specialty = $9) and s.offers @> $10 and s.visibility = any($11)
  and s.own_until is null and place_left(s) > 0
order by s.starts limit $12

-- name: booking_document
select booking_json(b)::text as document, s.source, s.professional, s.structure
from booking b join slot s on s.id = b.slot_id
where b.id = $1 and b.state not in ('promised', 'moved', 'displaced')

-- name: bookings_of_practice
-- Bookings that were firm, on slots of some publisher, professionals or structures, newest first.
select booking_json(b)::text as document
from slots_of_practice($1, $2, $3, $4, $5) s cross join lateral bookings_on(s.id) b
where b.firm_at is not null
order by s.starts, b.id limit $6

-- name: share_rules_of_source
select share_rule_json(r)::text as document from share_rule r where source = $1 order by name

-- name: note_exposure
select note_exposure($1, $2, $3, $4)

-- name: exposures_of
-- Who was shown, given or asked what of a practice.
select * from exposures_of($1, $2, $3, $4, $5, $6)

-- name: forget_exposures
delete from exposure where at < $1

-- name: limits
-- All limits as a matcher loads them: definition, and what is left of the coming periods with open places.
select limit_definition(l)::text as definition, coalesce((
    select json_agg(json_build_array(extract(epoch from p.starts)::bigint, limit_left(l.id, p.starts)) order by p.starts)
    from (select distinct period_start(l.period, l.zone, s.starts) as starts
          from slots_under(l, $1, 'infinity') s) p), '[]')::text as periods
from practice_limit l order by l.id

-- name: limits_of_source
-- Limits that a source has set, by name.
select limit_json(l, $2)::text as document from practice_limit l where source = $1 order by name

-- name: secure
-- A transaction that changes nothing but has something to flush, and with it all that was committed before.
select pg_logical_emit_message(true, 'sas', '')

-- name: leftovers
-- Outbox rows that their writer has not published in time, oldest first.
select o.* from outbox o where at <= $1 order by id limit $2

-- name: published
-- Not flushed at once: what a crash brings back is published again.
with unhurried as (select set_config('synchronous_commit', 'off', true))
delete from outbox using unhurried where id = any($1)

-- name: forget_idempotency
delete from idempotency where created_at < $1

-- name: take_leases
select territory, fence from take_leases($1, $2, $3)

-- name: drop_leases
delete from lease where holder = $1

-- name: overview
-- Counts for coordinators: open requests by tier and live places by profession of some territories.
select 'requests' as what, tier as name, status as part, count(*) from request
where territory = any($1) and created_at > $2 group by tier, status
union all
select 'places', profession, mode, sum(capacity) from slot
where territory = any($1) and status = 'open' and starts > $3 group by profession, mode

-- name: doubles
-- The auditor: seats, requests or professionals booked twice, and slots booked beyond their capacity (a capacity that
-- was lowered under what is booked breaks nothing, but nothing may be taken after it, nor more promises told than it then
-- takes; slot versions tell, clocks do not).
select 'seat' as what, count(*) from (select from booking where ended_at is null group by slot_id, seat having count(*) > 1) a
union all
select 'request', count(*) from (select from booking where ended_at is null group by request_id having count(*) > 1) a
union all
select 'overlap', count(*) from booking a join booking b on a.professional = b.professional and a.id < b.id
    and a.during && b.during where a.ended_at is null and b.ended_at is null
union all
select 'capacity', count(*) from (select from slot s join booking b on b.slot_id = s.id and b.ended_at is null
    group by s.id having
        count(*) > s.capacity and max(b.slot_version) filter (where b.state in ('promised', 'held')) = s.version
        or count(*) filter (where b.state <> 'promised') > s.capacity
            and max(b.slot_version) filter (where b.state <> 'promised') = s.version) a

-- name: mt_counts
select insee, yes, no, unknown from mt_counts($1, $2, $3, $4)

-- name: shares
select territory, share from territory_share

-- name: move_territory
insert into territory_share (territory, share, moved_at) values ($1, $2, $3)
on conflict (territory) do update set share = excluded.share, moved_at = excluded.moved_at

-- name: leave_territories
delete from lease where holder = $1 and territory = any($2)

-- name: matched_territories
-- Territories that some matcher decides for right now.
select territory from lease where until > clock_timestamp()
