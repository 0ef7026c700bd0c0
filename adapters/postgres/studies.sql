-- name: ask
insert into study (id, territory, days, ways, key_id, asked_at) values ($1, $2, $3, $4, $5, $6)

-- name: open_ones
-- How many of a territory wait or run.
select count(*)::int as number from study where territory = $1 and state in ('waiting', 'running')

-- name: take
-- The study that has waited longest, or whose worker has gone, is the caller's until $2.
update study set state = 'running', claimed_until = $2, claims = claims + 1 where id = (
    select id from study where state = 'waiting' or (state = 'running' and claimed_until < $1)
    order by asked_at limit 1 for update skip locked)
returning id::text, territory, days, ways, claims

-- name: advance
-- How far it is; nothing when it was stopped, or is another worker's now.
update study set done = $3, part = $4, claimed_until = $5 where id = $1 and claims = $2 and state = 'running' returning id

-- name: finish
update study set state = $3, failure = $4, finished_at = $5, done = $6, part = 0
where id = $1 and claims = $2 and state = 'running' returning id

-- name: stop
update study set state = 'stopped', finished_at = $3 where id = $1 and territory = $2 and state in ('waiting', 'running')
returning id

-- name: recent
select id::text, territory, days, ways, asked_at, state, done, part, failure, finished_at from study
where territory = $1 order by asked_at desc limit $2

-- name: study
select id::text, territory, days, ways, asked_at, state, done, part, failure, finished_at from study
where id = $1 and territory = $2

-- name: cells
-- What is known of some days in some ways.
select day, way, digest, figures::text from study_cell where territory = $1 and day = any($2) and way = any($3)

-- name: keep_cell
-- A day whose file or whose service has changed is another day: what was known of it goes.
with gone as (delete from study_cell where territory = $1 and day = $2 and way = $3 and digest <> $4)
insert into study_cell (territory, day, way, digest, figures, made_at) values ($1, $2, $3, $4, $5::text::json, $6)
on conflict do nothing
