-- A demo organization, a second one that must never see the first, and a catalogue of simulated models.
-- Sent by `make up` (supabase db push --include-seed). Safe to run again.
-- Prices and qualities are invented for the demo; no real model is meant.

insert into auth.users (id, email, raw_app_meta_data) values
(
    '019a0000-0000-7000-8000-000000000011', 'ada@demo.example',
    '{"organization_id": "019a0000-0000-7000-8000-000000000001", "role": "owner"}'
),
(
    '019a0000-0000-7000-8000-000000000012', 'bob@other.example',
    '{"organization_id": "019a0000-0000-7000-8000-000000000002", "role": "owner"}'
)
on conflict (id) do nothing;

insert into public.organizations (id, name) values
('019a0000-0000-7000-8000-000000000001', 'Demo'),
('019a0000-0000-7000-8000-000000000002', 'Other')
on conflict (id) do nothing;

insert into public.agents (id, organization_id, name, default_floor, default_max_output_tokens, baseline_model) values
('019a0000-0000-7000-8000-000000000021', '019a0000-0000-7000-8000-000000000001', 'demo', 0.7, 512, 'sim-large'),
('019a0000-0000-7000-8000-000000000022', '019a0000-0000-7000-8000-000000000002', 'other', 0.7, 512, 'sim-large'),
('019a0000-0000-7000-8000-000000000023', '019a0000-0000-7000-8000-000000000001', 'capped', 0.7, 512, 'sim-large')
on conflict (id) do nothing;

insert into public.organization_members (organization_id, user_id, role, default_agent_id) values
(
    '019a0000-0000-7000-8000-000000000001', '019a0000-0000-7000-8000-000000000011', 'owner',
    '019a0000-0000-7000-8000-000000000021'
),
(
    '019a0000-0000-7000-8000-000000000002', '019a0000-0000-7000-8000-000000000012', 'owner',
    '019a0000-0000-7000-8000-000000000022'
)
on conflict (organization_id, user_id) do nothing;

-- 10 US dollars each; the agent `capped` may spend a ten-thousandth of a dollar a day.
select public.top_up_wallet(
    '019a0000-0000-7000-8000-000000000031', '019a0000-0000-7000-8000-000000000001', 10000000000, 'demo funds'
);
select public.top_up_wallet(
    '019a0000-0000-7000-8000-000000000032', '019a0000-0000-7000-8000-000000000002', 10000000000, 'demo funds'
);
select public.set_spend_cap(
    '019a0000-0000-7000-8000-000000000041', '019a0000-0000-7000-8000-000000000001',
    '019a0000-0000-7000-8000-000000000023', 'day', 100000
);

insert into public.providers (name, base_url, api_key_variable) values
('simulated', 'http://127.0.0.1:54329/v1', null)
on conflict (name) do nothing;

insert into public.models (name, description) values
('sim-small', 'Cheap and quick'),
('sim-medium', 'The middle'),
('sim-large', 'Dear and good')
on conflict (name) do nothing;

insert into public.candidates (
    id, provider, model, upstream_model, context_window_tokens, max_output_tokens, capabilities, max_image_tokens
) values
('019a0000-0000-7000-8000-000000000051', 'simulated', 'sim-small', 'sim-small', 32000, 4096, '{}', null),
('019a0000-0000-7000-8000-000000000052', 'simulated', 'sim-medium', 'sim-medium', 128000, 8192, '{tools,json}', null),
('019a0000-0000-7000-8000-000000000053', 'simulated', 'sim-large', 'sim-large', 200000, 16384, '{tools,json,vision}', 1600)
on conflict (id) do nothing;

insert into public.prices (id, candidate_id, valid_from, tiers, source) values
(
    '019a0000-0000-7000-8000-000000000061', '019a0000-0000-7000-8000-000000000051', '2026-01-01',
    array[(0, 100000000, 10000000, 125000000, 200000000, 400000000, 400000000)::public.price_tier],
    'invented for the demo'
),
(
    '019a0000-0000-7000-8000-000000000062', '019a0000-0000-7000-8000-000000000052', '2026-01-01',
    array[(0, 400000000, 40000000, 500000000, 800000000, 1600000000, 1600000000)::public.price_tier],
    'invented for the demo'
),
(
    '019a0000-0000-7000-8000-000000000063', '019a0000-0000-7000-8000-000000000053', '2026-01-01',
    array[
        (0, 2500000000, 250000000, 3125000000, 5000000000, 10000000000, 10000000000)::public.price_tier,
        (100000, 5000000000, 500000000, 6250000000, 10000000000, 15000000000, 15000000000)::public.price_tier
    ],
    'invented for the demo'
)
on conflict (id) do nothing;

insert into public.model_qualities (model, task, quality, source, measured_on) values
('sim-small', 'general', 0.72, 'invented for the demo', '2026-01-01'),
('sim-small', 'code', 0.45, 'invented for the demo', '2026-01-01'),
('sim-medium', 'general', 0.84, 'invented for the demo', '2026-01-01'),
('sim-medium', 'code', 0.78, 'invented for the demo', '2026-01-01'),
('sim-large', 'general', 0.93, 'invented for the demo', '2026-01-01'),
('sim-large', 'code', 0.90, 'invented for the demo', '2026-01-01')
on conflict (model, task) do nothing;
