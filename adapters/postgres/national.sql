-- name: link_on
insert into national_link (since) values ($1) on conflict do nothing

-- name: link_off
delete from national_link

-- name: claim
-- Messages that are due, with the operator they are to name (null: the key is bound to none).
select m.id, m.booking_id::text, m.number, m.status, m.territory, m.professional, m.sos, m.starts, m.ends, m.booked_at,
    m.tries, o.system, o.value
from claim_messages($1, $2, $3) m left join key_operator o on o.key_id = m.key_id
order by m.id

-- name: settle
-- What came of it; ignored when another sender has taken it over meanwhile.
update appointment_message set state = $3, next_at = coalesce($4, next_at), claimed_until = null, last_error = $5,
    remote = coalesce($6, remote), settled_at = case when $3 = 'waiting' then null else $7::timestamptz end
where id = $1 and tries = $2 and state = 'waiting' returning id

-- name: counts
-- Of what was not sent: what was is kept for weeks, and counted when it is.
select state, count(*), extract(epoch from $1 - min(booked_at) filter (where state = 'waiting')) as oldest
from appointment_message where state in ('waiting', 'refused', 'impossible') group by state

-- name: forget
delete from appointment_message where state <> 'waiting' and coalesce(settled_at, booked_at) < $1

-- name: messages
select booking_id::text, number, status, state, tries, booked_at, settled_at, last_error, remote,
    nullif(next_at, 'epoch') as next_at
from appointment_message
where ($1::text is null or state = $1) and ($2::uuid is null or booking_id = $2) order by id desc limit $3

-- name: bind_operator
insert into key_operator (key_id, system, value) select id, $2, $3 from api_key where id = $1
on conflict (key_id) do update set system = excluded.system, value = excluded.value returning key_id
