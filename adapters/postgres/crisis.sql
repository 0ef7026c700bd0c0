-- name: lock
-- Declarations come one after the other: a territory's level hangs on several scopes.
select pg_advisory_xact_lock(hashtext('crisis'))

-- name: scope
select level, version from crisis_scope where scope = $1 and drill = $2

-- name: put_scope
insert into crisis_scope (scope, drill, level, version, changed_at, key_id, why) values ($2, $3, $4, $5, $1, $6, $7)
on conflict (scope, drill) do update set level = excluded.level, version = excluded.version,
    changed_at = excluded.changed_at, key_id = excluded.key_id, why = excluded.why

-- name: levels
select scope, level from crisis_scope where drill = $1 and level <> 'normal'

-- name: scopes
select scope, drill, level, version, changed_at, key_id, why from crisis_scope where scope = any($1) order by scope

-- name: territory
select level, since, applied::text, before::text, version from crisis_territory where territory = $1 and drill = $2

-- name: territories
select territory, drill, level, since, applied::text, before::text, version from crisis_territory
where territory = any($1) order by territory, drill

-- name: put_territory
insert into crisis_territory (territory, drill, level, since, applied, before, version)
values ($2, $3, $4, $1, $5::text::jsonb, $6::text::jsonb, $7)
on conflict (territory, drill) do update set level = excluded.level, since = excluded.since, applied = excluded.applied,
    before = excluded.before, version = excluded.version

-- name: setting
select setting_json(s)::text as document from territory_setting s where territory = $1 for update

-- name: ladder
select steps::text as steps from ladder where territory = $1 for update

-- name: lends
-- What neighbours have agreed to lend to a territory.
select p.territory, (l ->> 'pct')::int as pct from crisis_plan p, jsonb_array_elements(p.plan -> 'lends') l
where l ->> 'to' = $1 order by p.territory

-- name: write_log
insert into crisis_log as l (scope, drill, version, at, key_id, role, was, level, why, proposal, territories)
values ($2, $3, $4, $1, $5, $6, $7, $8, $9, $10::text::uuid, $11::text::jsonb) returning crisis_log_json(l)::text as document

-- name: tell
select array_agg(e) as published from tell_crisis($1, $2, $3, $4, $5, $6, null, $7) e

-- name: supersede
select array_agg(e) as published from supersede_proposals($1, $2, $3, $4) e

-- name: log
-- What was declared for some scopes, newest first; before (an id) pages backwards.
select crisis_log_json(l)::text as document from crisis_log l
where scope = any($1) and ($2::bigint is null or id < $2) order by id desc limit $3

-- name: plan
select crisis_plan_json(p)::text as document from crisis_plan p where territory = $1

-- name: change_plan
select * from change_crisis_plan($1, $2, $3, $4::text::jsonb, $5, $6)

-- name: plan_changes
select row_to_json(l)::text as document from crisis_plan_log l
where territory = $1 and ($2::int is null or version < $2) order by version desc limit $3

-- name: propose
select * from propose_level($1, $2::text::uuid, $3, $4, $5, $6, $7::text::jsonb, $8, $9)

-- name: answer_proposal
select * from answer_proposal($1, $2::text::uuid, $3, $4, $5)

-- name: proposal
select crisis_proposal_json(p)::text as document from crisis_proposal p where id = $1::text::uuid

-- name: proposals
select crisis_proposal_json(p)::text as document from crisis_proposal p
where territories && $1 and ($2::text is null or state = $2) order by at desc, cardinality(territories) limit $3

-- name: call
select * from call_practices($1, $2::text::uuid, $3, $4, $5, $6, $7, $8)

-- name: answer_call
select * from answer_call($1, $2::text::uuid, $3, $4)

-- name: calls_to
-- Calls to a publisher, professionals or structures, newest first.
select crisis_call_json(c, t)::text as document, o.source, o.professional, o.structure, o.id
from crisis_call_to t join crisis_call c on c.id = t.call_id join overflow o on o.id = t.overflow_id
where (o.source = $1 or o.professional = any($2) or o.structure = any($3)) and ($4::uuid is null or c.id = $4)
order by c.at desc, o.id limit $5

-- name: calls
-- Calls of a territory, newest first, with what was answered.
select json_build_object('call_id', c.id, 'territory', c.territory, 'drill', c.drill, 'level', c.level, 'at', c.at,
    'until', c.until, 'text', c.text, 'called', count(t), 'yes', count(t) filter (where t.state = 'yes'),
    'no', count(t) filter (where t.state = 'no'), 'places', coalesce(sum(t.places), 0))::text as document
from crisis_call c left join crisis_call_to t on t.call_id = c.id
where c.territory = any($1) and c.at >= $2 and c.at < $3 and ($4::boolean is null or c.drill = $4)
group by c.id order by c.at desc limit $5

-- name: figures
-- What detection looks at, by territory: see domain/alert.py.
with recent as (
    select territory, count(*) filter (where created_at > $1::timestamptz - interval '1 hour') as arrivals
    from request where created_at > $1::timestamptz - interval '1 hour' and created_at <= $1::timestamptz group by territory
), past as (
    -- the same hour of the last four weeks, of which there must be one at least
    select territory, count(*) as made from request r, generate_series(1, 4) week
    where r.created_at > $1::timestamptz - interval '1 hour' - week * interval '7 days' and r.created_at <= $1::timestamptz - week * interval '7 days'
    group by territory
), since as (
    select count(*) as weeks from generate_series(1, 4) week
    where exists (select from request where created_at < $1::timestamptz - interval '1 hour' - week * interval '7 days')
), waiting as (
    select territory, max(extract(epoch from $1::timestamptz - created_at) / extract(epoch from deadline - created_at)) as share
    from request where status = 'waiting' and tier in ('T0', 'T1') and deadline > $1::timestamptz group by territory
), closed as (
    select territory, count(*) as closed, count(*) filter (where status = 'unserved') as unmet
    from request where created_at > $1::timestamptz - interval '2 hours' and status in ('firm', 'fulfilled', 'noshow', 'unserved')
    group by territory
)
select t.territory, coalesce(recent.arrivals, 0) as arrivals,
    case when since.weeks > 0 then coalesce(past.made, 0) / since.weeks::float end as forecast,
    coalesce(waiting.share, 0)::float as oldest_share, coalesce(closed.closed, 0) as closed, coalesce(closed.unmet, 0) as unmet,
    coalesce(c.level, 'normal') as level
from unnest($2::text[]) t(territory) cross join since
left join recent using (territory) left join past using (territory) left join waiting using (territory)
left join closed using (territory) left join crisis_territory c on c.territory = t.territory and not c.drill

-- name: asked
-- For a review: what was asked in a time, and what came of it, by territory, tier, status and reason.
select r.territory, r.tier,
    case when r.status in ('firm', 'fulfilled', 'noshow') then 'met' when r.status = 'cancelled' then 'cancelled'
         when r.status = 'unserved' then 'missed' else 'open' end as outcome,
    case when r.status = 'unserved' then coalesce(r.decision -> 'none' ->> 'reason', 'UNKNOWN') else '' end as reason,
    count(*) as number, sum(r.broken) as broken, sum(r.moves) as moves, sum(r.lost_to_practice) as lost_to_practice,
    percentile_cont(0.5) within group (order by extract(epoch from k.firm_at - r.created_at)) as median_s,
    percentile_cont(0.95) within group (order by extract(epoch from k.firm_at - r.created_at)) as p95_s
from request r left join booking k on k.id = r.booking_id
where r.territory = any($1) and r.created_at >= $2 and r.created_at < $3
group by 1, 2, 3, 4 order by 1, 2, 3, 4

-- name: by_hour
select date_trunc('hour', created_at) as hour, count(*) as asked,
    count(*) filter (where status in ('firm', 'fulfilled', 'noshow')) as met, count(*) filter (where status = 'unserved') as missed
from request where territory = any($1) and created_at >= $2 and created_at < $3 group by 1 order by 1

-- name: opened
-- Seats published in a time that begin in it: the supply of the crisis.
select s.territory, count(*) as slots, sum(s.capacity) as seats from slot s
where s.territory = any($1) and s.starts >= $2 and s.starts < $3 and s.status = 'open' group by 1 order by 1
