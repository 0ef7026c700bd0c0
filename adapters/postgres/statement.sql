-- name: acts
-- What became a patient's place on a practice's slots in a window, with what its payment asks; no patient in it.
select b.id::text, b.state, s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind, s.territory,
    s.insee, s.starts, s.ends, s.mode, s.profession, s.for_request is not null as en_sus, r.created_at as regulated_at, k.role,
    case when r.mt is not null and s.professional is not null then case when r.mt = s.professional then 'yes' else 'no' end
         when r.has_mt = 'no' then 'no' else 'unknown' end as own
from slots_of_practice($1, $2, $3, $4, $5) s
-- slot by slot, by index
cross join lateral (select k.* from booking k where k.slot_id = s.id and k.ended_at is null offset 0) b
join request r on r.id = b.request_id join api_key k on k.id = r.key_id
where b.state in ('firm', 'fulfilled', 'noshow')
order by s.starts, b.id limit $6

-- name: offered
-- The slots that a practice offered in a window, with the seats that patients have; those withdrawn only where one has.
select s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind, s.territory, s.starts, s.ends,
    s.capacity, t.taken
from slots_of_practice($1, $2, $3, $4, $5) s cross join lateral (
    select count(*)::int as taken from booking b
    where b.slot_id = s.id and b.ended_at is null and b.state in ('firm', 'fulfilled', 'noshow')) t
where s.for_request is null and (s.status = 'open' or t.taken > 0)
order by s.starts, s.id limit $6
