-- name: due
-- Requests that wait without a place, in territories with a ladder, whose next step is due; who may be asked for each.
-- Asked every second: decisions (kilobytes each) are read only of those of whom the rest is true.
with due as materialized (
    select r.id from request r left join asking a on a.request_id = r.id
    where r.status = 'waiting' and r.deadline > $1 and (a.request_id is null or a.next_at <= $1)
      and r.territory = any(array(select territory from ladder where steps <> '[]')))
select request_json(r)::text as request, case when a.request_id is not null then asking_json(a) end::text as asking, l.steps::text as steps,
    overflow_candidates($1, r)::text as persons
from due join request r on r.id = due.id
join ladder l on l.territory = r.territory
left join asking a on a.request_id = r.id
where json_typeof(r.decision -> 'none') = 'object'
  -- who waits beside free places has a desk that keeps these for others
  and r.decision -> 'none' ->> 'reason' <> 'KEPT_FOR_OTHERS'
order by a.next_at nulls first, r.deadline limit $2

-- name: advance
select * from advance_asking($1, $2, $3, $4, $5, $6, $7, $8)

-- name: settle
select array_agg(o) as published, count(*) from settle_questions($1, $2) o

-- name: put_overflow
select document from put_overflow($1, $2)

-- name: remove_overflow
update overflow set removed_at = $1 where source = $2 and name = $3 and removed_at is null returning id

-- name: overflows
select overflow_json(o)::text as document from overflow o where source = $1 and removed_at is null order by name

-- name: question
-- A question with what is needed to judge whose it is and to price a yes.
select question_json(q)::text as document, request_json(r)::text as request, overflow_json(o)::text as overflow, o.landmass
from question q join request r on r.id = q.request_id join overflow o on o.id = q.overflow_id
where q.id = $1

-- name: questions
-- Questions put to a publisher, professionals or structures, newest first.
select question_json(q)::text as document from question q join overflow o on o.id = q.overflow_id
where (o.source = $1 or o.professional = any($2) or o.structure = any($3)) and ($4::text is null or q.state = $4)
order by q.asked_at desc, q.id limit $5

-- name: asking
select asking_json(a)::text as document from asking a join request r on r.id = a.request_id
where r.id = $1 and ($2::text is null or r.key_id = $2)

-- name: ladder
select ladder_json(l)::text as document from ladder l where territory = $1 and version > 0

-- name: change_ladder
select * from change_ladder($1, $2, $3, $4, $5, $6)

-- name: ladder_changes
select row_to_json(l)::text as document from ladder_log l
where territory = $1 and ($2::int is null or version < $2) order by version desc limit $3
