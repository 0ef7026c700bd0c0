-- Places of the editors of agendas that we poll (source 'fhir:<editor>').

-- Where a regulator books a place: the editor's page, with our origin.
create table editor_link (
    slot_id bigint primary key references slot (id),
    url     text not null
);

-- What the sweep and the figures look for.
create index slot_of_editor on slot (source, starts) where status = 'open' and source like 'fhir:%';
