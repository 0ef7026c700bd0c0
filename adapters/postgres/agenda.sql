-- name: agenda
-- What is known of an agenda.
select source, name, professional, structure, document::text, version, changed_at, shown_version,
    nullif(shown_until, '-infinity') as shown_until, shown_at, report::text, failed,
    changed_by, feed_good_at, feed_failed
from agenda where source = $1 and name = $2

-- name: agendas
select source, name, professional, structure, document::text, version, changed_at, shown_version,
    nullif(shown_until, '-infinity') as shown_until, shown_at, report::text, failed,
    changed_by, feed_good_at, feed_failed
from agenda
where source = $1 and ($2::text[] is null or professional = any($2) or structure = any($3))
order by name limit $4

-- name: due
-- Agendas whose newest version is not published, or not far enough ahead; oldest first.
select source, name from agenda
where again_at <= $1 and (shown_version <> version or shown_until < $2)
order by shown_until, source, name limit $3

-- name: failed
-- Nothing was changed of what is published; it is tried again from then on.
update agenda set failed = $4, again_at = $5 where source = $1 and name = $2 and version = $3 returning name

-- name: forget
-- An agenda of which nothing is published any more.
delete from agenda where source = $1 and name = $2 and version = $3 and shown_version = $3 returning name

-- name: taken
-- Seats of its coming plages that somebody has.
select s.external_id, s.starts, s.ends, count(*) as seats
from agenda_slot k join slot s on s.id = k.slot_id join booking b on b.slot_id = s.id and b.ended_at is null
where k.source = $1 and k.name = $2 and k.starts > $3 and s.capacity > 1
group by s.id

-- name: put_back
-- Hours of an agenda in which its practice refused a patient, and which it offers again after all.
with mine as (
    select s.id from agenda_slot k join slot s on s.id = k.slot_id
    join unnest($3::timestamptz[], $4::timestamptz[]) w(begins, stops) on s.starts >= w.begins and s.ends <= w.stops
    where k.source = $1 and k.name = $2 and s.refused order by s.id for update of s
)
update slot set refused = false where id in (select id from mine)

-- name: feeds_due
-- Take subscribed calendars that are to be read; whoever has taken one has until then.
update agenda set feed_next = $2 where (source, name) in (
    select source, name from agenda where feed is not null and feed_next <= $1 order by feed_next, source, name limit $3
    for update skip locked)
returning source, name

-- name: feed_told
-- What became of reading the calendar of an agenda that still subscribes to it.
update agenda set feed_next = $4, feed_failed = $5, feed_good_at = case when $5::text is null then $6 else feed_good_at end
where source = $1 and name = $2 and feed::jsonb = $3::jsonb returning name
