-- name: open_requests
-- Requests that are open now, by territory, tier and status; how old they are.
with open as (
    select territory, tier, status, created_at from request
    where status in ('waiting', 'promised') and territory = any($1) and deadline > $2::timestamptz - interval '1 hour'
    union all
    -- found by their holds: `held` has no index of its own
    select r.territory, r.tier, r.status, r.created_at from booking b join request r on r.id = b.request_id
    where b.state = 'held' and b.ended_at is null and r.status = 'held' and r.territory = any($1)
)
select territory, tier, status, count(*) as number, min(created_at) as oldest,
    count(*) filter (where created_at > $2::timestamptz - interval '15 minutes') as fresh,
    count(*) filter (where created_at <= $2::timestamptz - interval '1 hour') as old
from open group by territory, tier, status order by territory, tier, status

-- name: free_places
-- Seats that are free in the next hours, by territory, profession and mode.
select territory, profession, mode, sum(seats_left) filter (where starts <= $2::timestamptz + interval '4 hours')::int as hours_4,
    sum(seats_left) filter (where starts <= $2::timestamptz + interval '24 hours')::int as hours_24, sum(seats_left)::int as hours_72
from places_in($1, $2::timestamptz, $2::timestamptz + interval '72 hours', $3) group by territory, profession, mode
order by territory, profession, mode

-- name: matched
select territory from lease where until > clock_timestamp() and territory = any($1)

-- name: outcomes
-- What was asked in a window and what came of it, by tier; minutes until the place was told and until the care (half of
-- the patients, and nine in ten, had less).
select r.tier, count(*)::int as asked,
    count(*) filter (where outcome_of(r.status) = 'met')::int as met,
    count(*) filter (where outcome_of(r.status) = 'open')::int as open,
    count(*) filter (where outcome_of(r.status) = 'unmet')::int as unmet,
    count(*) filter (where outcome_of(r.status) = 'dropped')::int as dropped,
    count(*) filter (where outcome_of(r.status) = 'cancelled')::int as cancelled,
    count(*) filter (where r.status = 'noshow')::int as noshow,
    percentile_cont(array[0.5, 0.9]) within group (
        order by extract(epoch from least(r.promised_at, b.firm_at) - r.created_at)::float8 / 60)
        filter (where outcome_of(r.status) = 'met') as told,
    percentile_cont(array[0.5, 0.9]) within group (order by extract(epoch from s.starts - r.created_at)::float8 / 60)
        filter (where outcome_of(r.status) = 'met') as seen,
    sum(r.broken)::int as broken, sum(r.lost_to_practice)::int as lost, sum(r.moves)::int as moves,
    count(*) filter (where outcome_of(r.status) = 'met' and s.mode = 'tele')::int as tele,
    count(*) filter (where outcome_of(r.status) = 'met' and s.for_request is not null)::int as en_sus,
    count(*) filter (where r.mt is null)::int as without_mt,
    count(*) filter (where outcome_of(r.status) = 'met' and s.professional is distinct from r.mt)::int as not_own
from request r left join booking b on b.id = r.booking_id left join slot s on s.id = b.slot_id
where r.territory = $1 and r.created_at >= $2 and r.created_at < $3
group by r.tier order by r.tier

-- name: unmet
-- Requests that found no place before their deadline, by reason, profession and hour of the day.
select case grouping(reason, profession, hour) when 3 then 'reason' when 5 then 'profession' else 'hour' end as what,
    coalesce(reason, profession, hour::text) as name, count(*)::int as number
from (
    select coalesce(r.decision #>> '{none,reason}', 'UNKNOWN') as reason, r.profession,
        extract(hour from r.created_at at time zone $4)::int as hour
    from request r where r.territory = $1 and r.created_at >= $2 and r.created_at < $3 and r.status = 'unserved') u
group by grouping sets ((reason), (profession), (hour)) order by what, number desc, name

-- name: communes_need
-- What became of the requests from each commune.
select insee, count(*) filter (where outcome_of(status) = 'met')::int as met,
    count(*) filter (where outcome_of(status) = 'unmet')::int as unmet
from request where territory = $1 and created_at >= $2 and created_at < $3 group by insee order by insee

-- name: communes_supply
-- Places that begin in a window, by commune of the practice.
select s.insee, sum(s.capacity)::int as offered, sum(f.filled)::int as filled,
    count(distinct coalesce(s.structure, s.professional))::int as practices
from slot s cross join lateral (
    select count(*)::int as filled from booking b where b.slot_id = s.id and b.ended_at is null and b.firm_at is not null) f
where s.territory = $1 and s.status = 'open' and s.starts >= $2 and s.starts < $3 and s.for_request is null
  and ($4::text[] is null or s.structure = any($4))
group by s.insee order by s.insee

-- name: supply
-- Places that begin in a window, by profession and kind of practice; hours of plages by the share of seats that are
-- filled. En sus apart: these were never offered to anybody else.
select s.profession, s.source_kind, sum(s.capacity) filter (where s.for_request is null)::int as offered,
    sum(f.filled) filter (where s.for_request is null)::int as filled,
    sum(f.filled) filter (where s.for_request is not null)::int as en_sus,
    sum(f.noshow)::int as noshow,
    sum(extract(epoch from s.ends - s.starts)::float8 / 3600) filter (where s.for_request is null) as hours,
    sum(extract(epoch from s.ends - s.starts)::float8 / 3600 * f.filled / s.capacity)
        filter (where s.for_request is null) as hours_filled
from slot s cross join lateral (
    select count(*)::int as filled, count(*) filter (where b.state = 'noshow')::int as noshow
    from booking b where b.slot_id = s.id and b.ended_at is null and b.firm_at is not null) f
where s.territory = $1 and s.status = 'open' and s.starts >= $2 and s.starts < $3
  and ($4::text[] is null or s.structure = any($4))
group by s.profession, s.source_kind order by s.profession, s.source_kind

-- name: practices
-- The same by practice, the fullest first.
select coalesce(s.structure, s.professional) as practice, max(coalesce(s.structure_name, s.professional_name)) as name,
    max(s.source_kind) as source_kind, min(s.insee) as insee, sum(s.capacity)::int as offered,
    sum(f.filled)::int as filled, count(distinct s.professional)::int as professionals,
    sum(extract(epoch from s.ends - s.starts)::float8 / 3600) as hours
from slot s cross join lateral (
    select count(*)::int as filled from booking b where b.slot_id = s.id and b.ended_at is null and b.firm_at is not null) f
where s.territory = $1 and s.status = 'open' and s.starts >= $2 and s.starts < $3
  and ($4::text[] is null or s.structure = any($4)) and coalesce(s.structure, s.professional) is not null
group by 1 order by filled desc, practice limit 1000

-- name: course
-- Requests day by day, or hour by hour, on the clock of the territory.
select date_trunc($5, r.created_at at time zone $4) as at, count(*)::int as asked,
    count(*) filter (where outcome_of(r.status) = 'met')::int as met,
    count(*) filter (where outcome_of(r.status) = 'unmet')::int as unmet
from request r where r.territory = $1 and r.created_at >= $2 and r.created_at < $3
group by 1 order by 1

-- name: public_outcomes
-- A window of all territories, for everybody; null: all together.
select r.territory, count(*)::int as asked, count(*) filter (where outcome_of(r.status) = 'met')::int as met,
    count(*) filter (where outcome_of(r.status) = 'unmet')::int as unmet,
    percentile_cont(0.5) within group (
        order by extract(epoch from least(r.promised_at, b.firm_at) - r.created_at)::float8 / 60)
        filter (where outcome_of(r.status) = 'met') as told,
    percentile_cont(0.5) within group (order by extract(epoch from s.starts - r.created_at)::float8 / 60)
        filter (where outcome_of(r.status) = 'met') as seen
from request r left join booking b on b.id = r.booking_id left join slot s on s.id = b.slot_id
where r.territory = any($1) and r.created_at >= $2 and r.created_at < $3
group by grouping sets ((r.territory), ())

-- name: public_places
select territory, sum(capacity)::int as offered from slot
where territory = any($1) and status = 'open' and starts >= $2 and starts < $3 and for_request is null
group by grouping sets ((territory), ())

-- name: open_screen
with old as (delete from wall_screen where ends_at <= $6)
insert into wall_screen (token_hash, id, territory, name, key_id, opened_at, ends_at) values ($1, $2, $3, $4, $5, $6, $7)

-- name: screen
-- A screen in force, and the key that it hangs on.
select s.id, s.territory, s.name, s.key_id, s.opened_at, s.ends_at from wall_screen s join api_key k on k.id = s.key_id
where s.token_hash = $1 and s.ends_at > $2 and k.revoked_at is null and (k.expires_at is null or k.expires_at > $2)

-- name: screens
select s.id, s.territory, s.name, s.key_id, s.opened_at, s.ends_at from wall_screen s
where s.territory = $1 and s.ends_at > $2 order by s.opened_at desc limit 100

-- name: close_screen
delete from wall_screen where id = $1 and territory = $2 returning id
