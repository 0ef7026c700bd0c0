-- The ledger: the only truth. Times are instants (timestamptz); one unique row decides each seat of each slot.

create extension if not exists btree_gist;

-- One counter for every change of a place: a mirror accepts a state only if its version is newer.
create sequence change_seq;

create table api_key (
    id            text primary key,
    secret_hash   bytea not null,
    name          text not null,
    role          text not null,
    territories   text[] not null default '{}',
    structures    text[] not null default '{}',
    professionals text[] not null default '{}',
    source        text not null,
    created_at    timestamptz not null,
    expires_at    timestamptz,
    revoked_at    timestamptz,
    -- SHA-256 (hex) of the password of its Redis user; null: no publishing through Redis
    ingest_hash   text
);

create table territory_setting (
    territory     text primary key,
    hold_seconds  int not null default 180 check (hold_seconds between 15 and 1800),
    mt_rule       text not null default 'bonus' check (mt_rule in ('bonus', 'first')),
    -- where he goes first: minutes that he has to answer before another place is taken; 0: he is not asked
    mt_ask_min    int not null default 3 check (mt_ask_min between 0 and 15),
    -- by tier, when a place becomes firm
    policy        jsonb not null default '{"T0": "firm", "T1": "firm", "T2": "firm", "T3": "firm"}' check (
        policy ?& array['T0', 'T1', 'T2', 'T3'] and policy - array['T0', 'T1', 'T2', 'T3'] = '{}'
        and not jsonb_path_exists(policy, '$.* ? (!(@ == "firm" || @ == "promise" || @ == "crisis" || @ == "auto"))')),
    -- whether promises may be broken here at all; whether a crisis is declared now
    crisis_allowed boolean not null default false,
    crisis        boolean not null default false,
    -- percent of its tier's value that a request gains for each hour that it waits
    ageing_pct_per_h double precision not null default 0 check (ageing_pct_per_h between 0 and 2),
    -- minutes that each patient whom a professional already has adds to the cost of his places: loads are spread
    fair_load_min double precision not null default 0 check (fair_load_min between 0 and 30),
    -- percent of the radius asked for; share of the places here that are kept for T0 and T1 until an hour before they
    -- begin; minutes that a consultation by video is worth; neighbours' places within reach ({territory: percent}, km)
    radius_pct    int not null default 100 check (radius_pct between 100 and 300),
    urgent_reserve_pct int not null default 0 check (urgent_reserve_pct between 0 and 80),
    tele_bonus_min double precision not null default 0 check (tele_bonus_min between 0 and 60),
    borrow        jsonb not null default '{}' check (jsonb_typeof(borrow) = 'object'
        and not jsonb_path_exists(borrow, '$.* ? (!(@ >= 1 && @ <= 100))')),
    borrow_km     double precision not null default 0 check (borrow_km between 0 and 150),
    version       int not null default 0,
    changed_at    timestamptz,
    constraint crisis_needs_leave check (
        crisis_allowed or not (crisis or jsonb_path_exists(policy, '$.* ? (@ == "crisis")')))
);

-- Who changed a territory's setting, when and why; before and after as `setting_json` says them.
create table territory_setting_log (
    territory text not null references territory_setting (territory),
    version   int not null,
    at        timestamptz not null,
    key_id    text not null references api_key (id),
    before    json not null,
    after     json not null,
    why       text not null check (why <> ''),
    primary key (territory, version)
);

create table slot (
    id                bigint generated always as identity primary key,
    source            text not null,
    external_id       text not null,
    territory         text not null,
    professional      text,
    professional_name text,
    structure         text,
    structure_name    text,
    source_kind       text not null,
    lat               double precision not null,
    lon               double precision not null,
    landmass          smallint not null,
    insee             text not null,
    label             text,
    phone             text,
    starts            timestamptz not null,
    ends              timestamptz not null,
    capacity          int not null check (capacity between 1 and 200),
    -- the fewest seats to which its practice has cut it; null: it has not
    cut_to            int,
    mode              text not null,
    booking_kind      text not null,
    profession        text not null,
    specialty         text,
    offers            text[] not null,
    visibility        text not null,
    status            text not null default 'open' check (status in ('open', 'withdrawn')),
    valid_at          timestamptz not null,
    checked_at        timestamptz not null,
    changed_at        timestamptz not null,
    version           bigint not null,
    -- offered en sus for this request alone: nobody else is given it
    for_request       uuid,
    -- what its practice's rules make of it (see share_slots): the SAS has it not; the national platform has it; for own
    -- patients only until then; the rule that lets it leave, null where its publication does
    shut              boolean not null default false,
    platform          boolean not null default true,
    own_until         timestamptz,
    rule              text,
    -- whether its practice accepts each booking, how many minutes it has for it, and what silence means
    acceptance        text check (acceptance in ('tacit', 'explicit')),
    accept_min        int check (accept_min between 1 and 1440),
    -- from when on what is unused is the practice's again, and how many seats that were told so (null: not yet)
    back_at           timestamptz,
    handed_back       int,
    -- how often the practice was told so, ever: the version of that news
    back_told         int not null default 0,
    -- withdrawn because its practice refused a patient in it: the agenda it was cut from does not offer it again
    refused           boolean not null default false,
    check ((acceptance is null) = (accept_min is null)),
    check (ends > starts),
    constraint slot_of_source unique (source, external_id)
);
-- what a source has in a window, and of all sources together
create index slot_of_source_in_time on slot (source, starts);
create index slot_live on slot (territory, starts) where status = 'open';
create index slot_due_back on slot (back_at) where status = 'open' and back_at is not null and handed_back is null;
create index slot_place on slot (profession, lat) where status = 'open';
create index slot_of_professional on slot (professional, starts) where status = 'open' and capacity = 1;
create index plage_of_professional on slot (professional, starts) where status = 'open' and capacity > 1;
create index slot_of_structure on slot (structure, starts) where status = 'open' and structure is not null;
-- whose patients may have been kept, and count under limits
create index withdrawn_of_professional on slot (professional, starts) where status = 'withdrawn' and professional is not null;
create index withdrawn_of_structure on slot (structure, starts) where status = 'withdrawn' and structure is not null;

create table request (
    id          uuid primary key,
    key_id      text not null references api_key (id),
    territory   text not null,
    lat         double precision not null,
    lon         double precision not null,
    insee       text not null,
    profession  text not null,
    specialty   text,
    modes       text[] not null,
    tier        text not null,
    delay       text not null,
    created_at  timestamptz not null,
    deadline    timestamptz not null,
    radius_km   double precision not null,
    needs       text[] not null,
    age_band    text,
    mt          text,
    -- whether the patient has a médecin traitant, whoever that is
    has_mt      text not null default 'unknown' check (has_mt in ('yes', 'no', 'unknown')),
    -- where the médecin traitant goes first: what came of that, and until when nothing else is taken (see ask_mt)
    mt_said     text check (mt_said in ('place', 'too_short', 'not_askable', 'asked', 'refused', 'accepted')),
    mt_until    timestamptz,
    priority    text not null,
    on_phone    boolean not null,
    case_ref    text,
    status      text not null default 'waiting' check (status in (
        'waiting', 'promised', 'held', 'firm', 'lapsed', 'unserved', 'cancelled', 'fulfilled', 'noshow')),
    version     int not null default 1,
    excluded    text[] not null default '{}',
    booking_id  uuid,
    decision    json,
    -- the promise "seen before your deadline": when it was first given, and by when its place and hour are told
    promised_at timestamptz,
    told_by     timestamptz,
    -- how often its seat changed; how often the engine broke it; how often a practice took its seat away
    moves       int not null default 0,
    broken      int not null default 0,
    lost_to_practice int not null default 0,
    -- a place chosen by hand is held in its stead: the promise returns when that hold runs out
    promise_behind boolean not null default false,
    -- why a practice last gave a place of it back, and when
    refused_for text,
    refused_at  timestamptz,
    check (status <> 'promised' or (promised_at is not null and told_by is not null and booking_id is not null))
);
create index request_open on request (deadline) where status in ('waiting', 'promised');
create index request_promised on request (booking_id) where status = 'promised';
-- what was asked for lately (calls of a day, what is counted for a CPTS)
create index request_made on request using brin (created_at);
create index request_of_key on request (key_id, created_at desc);

create table booking (
    id           uuid primary key,
    request_id   uuid not null references request (id),
    slot_id      bigint not null references slot (id),
    seat         int not null,
    territory    text not null,
    professional text,
    -- set for individual slots only: a plage takes several patients in one range
    during       tstzrange,
    state        text not null check (state in ('promised', 'held', 'firm', 'fulfilled', 'noshow', 'declined', 'lapsed',
        'cancelled', 'refused', 'withdrawn', 'replaced', 'moved', 'displaced')),
    -- the version of the slot it was taken under, or its promise told: tells what was booked after its capacity changed
    slot_version bigint not null,
    held_at      timestamptz not null,
    hold_until   timestamptz,
    firm_at      timestamptz,
    ended_at     timestamptz,
    end_reason   text,
    -- the rule that let its place leave when it was taken ('': its publication)
    rule         text,
    version      int not null default 1,
    -- of a firm one whose practice accepts: what silence until accept_until means; since when it is accepted
    acceptance   text,
    accept_until timestamptz,
    accepted_at  timestamptz,
    -- exactly these five occupy a seat
    check ((ended_at is null) = (state in ('promised', 'held', 'firm', 'fulfilled', 'noshow')))
);
-- The verdict of every race: one active booking for each seat.
create unique index booking_one_seat on booking (slot_id, seat) where ended_at is null;
-- One place for each request.
create unique index booking_one_request on booking (request_id) where ended_at is null;
-- Nobody is booked at two individual times that overlap.
alter table booking add constraint booking_no_overlap
    exclude using gist (professional with =, during with &&) where (ended_at is null and during is not null);
create index booking_to_accept on booking (accept_until) where state = 'firm' and accept_until is not null and accepted_at is null;
-- What became of a slot's patients who have it no more: nothing is added to it by a claim.
create index booking_over on booking (slot_id) where ended_at is not null;
create index booking_due on booking (hold_until) where state = 'held' and ended_at is null;

create table idempotency (
    key_id     text not null,
    key        text not null,
    body_hash  bytea not null,
    request_id uuid,
    status     int,
    answer     text,
    created_at timestamptz not null,
    primary key (key_id, key)
);
create index idempotency_age on idempotency (created_at);

create table outbox (
    id        bigint generated always as identity primary key,
    at        timestamptz not null,
    territory text not null,
    stream    text not null,
    type      text not null,
    aggregate text not null,
    version   int not null,
    -- the API key whose sockets get it
    owner     text not null,
    -- who else gets it: 'src:…' publisher, 'p:…' professional, 's:…' structure, 't:…' all keys of a territory ('t:*')
    audience  text[] not null,
    data      text not null
);
-- Read once and dropped within seconds: compressing it costs more than the room it saves.
alter table outbox alter column data set storage external;
-- A decision with its reasons (4 kB) stays in the row: what is set apart is two more rows to be written and dropped.
-- Each vacuum and each analysis of a table lets every connection plan anew what reads or writes it: 4 ms for the next claim.
-- These change all the time and are found by key, whatever their statistics say: 5 000 dead rows are 25 MB.
alter table outbox set (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000000000);

-- Exactly one matcher decides for a territory; the fence travels with each of its claims.
create table lease (
    territory text primary key,
    holder    text not null,
    fence     bigint not null,
    until     timestamptz not null,
    -- a change of fence thereby conflicts with FOR KEY SHARE, a mere renewal does not
    unique (territory, fence)
);
alter table lease set (autovacuum_vacuum_threshold = 5000, autovacuum_analyze_threshold = 5000);
create sequence fence_seq;
-- Which of several matchers shall decide for a territory; without a row it is told by the territory's place in the list.
create table territory_share (
    territory text primary key,
    share     int not null check (share >= 0),
    moved_at  timestamptz not null
);

-- Where a regulator books a place of another editor of agendas (source 'fhir:…'): that editor's page.
create table editor_link (
    slot_id bigint primary key references slot (id),
    url     text not null
);

-- As the outbox, but with statistics soon, and again each time they have grown by half: with the defaults a young ledger,
-- whose tables grow by a tenth in seconds, plans anew all the time.
alter table request set (autovacuum_vacuum_threshold = 2000, autovacuum_analyze_threshold = 300,
    autovacuum_analyze_scale_factor = 0.5);
alter table booking set (autovacuum_vacuum_threshold = 2000, autovacuum_analyze_threshold = 300,
    autovacuum_analyze_scale_factor = 0.5);
alter table idempotency set (autovacuum_vacuum_threshold = 2000, autovacuum_analyze_threshold = 300,
    autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_insert_threshold = 10000);
