-- name: places_of_practitioners
-- Free places of some practitioners that start in a window, of the visibilities that may be shown. What another editor
-- published (source 'fhir:…') is that editor's to show.
select s.id, s.professional, s.professional_name, s.structure, s.structure_name, s.territory, s.insee, s.lat, s.lon,
    s.label, s.phone, s.starts, s.ends, s.mode, s.booking_kind, s.profession, s.specialty, s.visibility
from slot s
where s.status = 'open' and s.capacity = 1 and s.professional = any($1) and s.starts > $2 and s.starts >= $3
  and s.starts <= $4 and s.visibility = any($5) and s.source not like 'fhir:%' and place_left(s) > 0
union all
select s.id, s.professional, s.professional_name, s.structure, s.structure_name, s.territory, s.insee, s.lat, s.lon,
    s.label, s.phone, s.starts, s.ends, s.mode, s.booking_kind, s.profession, s.specialty, s.visibility
from slot s
where s.status = 'open' and s.capacity > 1 and s.professional = any($1) and s.starts > $2 and s.starts >= $3
  and s.starts <= $4 and s.visibility = any($5) and s.source not like 'fhir:%' and place_left(s) > 0
order by 12, 1 limit $6

-- name: places_of_sos
-- The same of the sites of SOS Médecins, by structure.
select s.id, s.professional, s.professional_name, s.structure, s.structure_name, s.territory, s.insee, s.lat, s.lon,
    s.label, s.phone, s.starts, s.ends, s.mode, s.booking_kind, s.profession, s.specialty, s.visibility
from slot s
where s.status = 'open' and s.source_kind = 'sos' and s.structure = any($1) and s.starts > $2 and s.starts >= $3
  and s.starts <= $4 and s.visibility = any($5) and s.source not like 'fhir:%' and place_left(s) > 0
order by s.starts, s.id limit $6

-- name: place
-- One free place, whatever its start, that may be shown.
select s.id, s.professional, s.professional_name, s.structure, s.structure_name, s.territory, s.insee, s.lat, s.lon,
    s.label, s.phone, s.starts, s.ends, s.mode, s.booking_kind, s.profession, s.specialty, s.visibility
from slot s
where s.id = $1 and s.status = 'open' and s.starts > $2 and s.professional is not null and s.visibility = any($3)
  and s.source not like 'fhir:%' and place_left(s) > 0

-- name: save_account
select * from save_account($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: account
select id::text, national, technical, family, given, email, active, version from regulator_account where id = $1

-- name: account_meant
select id::text, national, technical, family, given, email, active, version from regulator_account
where id = account_meant($1, $2, null, null)
