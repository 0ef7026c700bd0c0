-- name: hidden
-- What is shown already: the same practitioner, instant, city and mode under another source. A practice's own slot
-- goes before an editor's; of two editors' the one that was here first. And phantoms found of late.
select d.external_id from json_to_recordset($2) as d(
    external_id text, professional text, starts timestamptz, insee text, mode text)
left join slot mine on mine.source = $1 and mine.external_id = d.external_id
where exists (
        select from slot o where o.professional = d.professional and o.starts = d.starts and o.status = 'open'
          and o.capacity = 1 and city_of(o.insee) = city_of(d.insee) and o.mode = d.mode and o.source <> $1
          and (o.source not like 'fhir:%' or mine.status is distinct from 'open' or o.id < mine.id)
        -- place by place, by index: PostgreSQL would hash all that there ever were
        offset 0)
    or exists (
        select from booking b where b.slot_id = mine.id and b.state = 'refused' and b.end_reason = 'phantom'
          and b.ended_at > $3
        offset 0)

-- name: touch
update slot set checked_at = $3, valid_at = $3
where source = $1 and external_id = any($2) and status = 'open' and valid_at <= $3 returning external_id

-- name: vanished
-- By professional, or by the structure of a place without one.
select s.external_id from unnest($2::text[]) w(owner) cross join lateral (
    select i.* from slot i where i.professional = w.owner and i.status = 'open' and i.capacity = 1
      and i.starts >= $3 and i.starts <= $4
    union all
    select i.* from slot i where i.structure = w.owner and i.professional is null and i.status = 'open'
      and i.starts >= $3 and i.starts <= $4
    offset 0) s
where s.source = $1 and s.external_id <> all($5)
  and not exists (select from booking b where b.slot_id = s.id and b.ended_at is null and b.state <> 'promised')

-- name: stale
select s.source, s.external_id from slot s
where s.source like 'fhir:%' and s.status = 'open' and s.checked_at < $1 and s.starts > $2
  and not exists (select from booking b where b.slot_id = s.id and b.ended_at is null and b.state <> 'promised')
order by s.id limit 5000

-- name: figures
-- A booking was tried when it was held and then confirmed, or found to be a phantom.
select w.source,
    (select count(*) from slot s where s.source = w.source and s.status = 'open' and s.starts > $3) as places,
    (select min(s.checked_at) from slot s where s.source = w.source and s.status = 'open' and s.starts > $3) as oldest,
    b.tried, b.phantoms
from unnest($1::text[]) w(source) cross join lateral (
    select count(*) filter (where b.firm_at is not null or b.end_reason = 'phantom') as tried,
        count(*) filter (where b.end_reason = 'phantom') as phantoms
    -- whoever was given a place since then was given one that began later
    from slot s cross join lateral bookings_on(s.id) b
    where s.source = w.source and s.starts > $2 and b.held_at > $2) b

-- name: take_appointment
select * from take_appointment($1, $2, $3, $4, $5, $6, $7, $8, $9)
