-- name: put
select document, fresh, extract(epoch from wait) as wait
from put_subscription($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: confirm
select outcome, document from confirm_subscription($1, $2, $3, $4)

-- name: remove
delete from subscription where source = $1 and name = $2 returning id

-- name: subscriptions
select subscription_json(s)::text as document from subscription s where source = $1 order by name

-- name: rotate
-- The secret before goes on signing for a while, so that whoever checks has time to change.
update subscription s set old_secret = secret, old_until = $4, secret = $3, version = version + 1, changed_at = $5
where source = $1 and name = $2 and way = 'webhook' returning subscription_json(s)::text as document

-- name: test
-- A notice that tells nothing, to see whether it arrives: a few a minute, so that nobody is flooded by them.
insert into notice (subscription_id, once, about, kind, at, territory, body)
select s.id, 'test:' || $4, 'test:' || $4, 'test', $3, '', '{}' from subscription s
where source = $1 and name = $2 and state = 'active'
  and (select count(*) from notice n where n.subscription_id = s.id and n.kind = 'test' and n.at > $3::timestamptz - interval '1 minute') < $5
returning id

-- name: claim
select n.id, n.kind, n.about, n.at, n.territory, n.body::text, n.tries, s.way, s.address,
    array_remove(array[s.secret, case when s.old_until > $1 then s.old_secret end], null) as secrets,
    array(select member from subscription_member m where m.subscription_id = s.id order by member) as members
from claim_notices($1, $2, $3) n join subscription s on s.id = n.subscription_id
order by n.id

-- name: settle
select settled, published from settle_notice($1, $2, $3, $4, $5, $6, $7, $8)

-- name: remind
select remind($1, $2) as count

-- name: counts
-- Of what waits and what was refused: what was sent is kept for weeks, and counted when it is.
select 'waiting' as state, count(*), extract(epoch from $1 - min(at)) as oldest from notice
where state = 'waiting' having count(*) > 0
union all
select 'refused', count(*), null from notice where state = 'refused' having count(*) > 0

-- name: forget
-- Also what a revoked key left behind.
delete from notice where (state <> 'waiting' and settled_at < $1) or (state = 'waiting' and at < $1)

-- name: deliveries
-- What was told to the subscriptions of a source, or is to be; newest first.
select json_build_object(
    'id', 'msg_' || n.id, 'subscription', s.name, 'way', s.way, 'kind', n.kind, 'at', n.at,
    'data', case when n.kind = 'confirm' then '{}' else n.body end, 'state', n.state,
    'tries', n.tries, 'settled_at', n.settled_at, 'last_error', n.last_error,
    'next_at', case when n.state = 'waiting' and n.tries > 0 then n.next_at end)::text as document
from notice n join subscription s on s.id = n.subscription_id
where s.source = $1 and s.name = any($2) and ($3::text is null or n.state = $3) and ($4::bigint is null or n.id < $4)
order by n.id desc limit $5
