-- api_keys: members see their organization's, but never the hash of one; the backend keeps them.
begin;
select plan(17);
call clearfloor_tests.create_world();

select clearfloor_tests.grants_are('api_keys', role, commands)
from (values
    ('anon',              'nothing'),
    ('authenticated',     'select (id, organization_id, agent_id, name, display_prefix, created_at, expires_at, revoked_at, replaced_by)'),
    ('service_role',      'select, insert, update, delete'),
    ('clearfloor_writer', 'select, insert, update')
) as expected (role, commands);

-- Whose rows each comes to: anon and users by the policies alone, as if granted every command; service_role by its grants.
select clearfloor_tests.access_is('api_keys', actor, selects, inserts, updates, deletes)
from (values
    --                          selects    inserts    updates    deletes
    ('anon',                    'none',    'none',    'none',    'none'),
    ('member of acme',          'acme',    'none',    'none',    'none'),
    ('owner of acme',           'acme',    'none',    'none',    'none'),
    ('member of zenith',        'zenith',  'none',    'none',    'none'),
    ('user of no organization', 'none',    'none',    'none',    'none'),
    ('anonymous user',          'none',    'none',    'none',    'none'),
    ('anonymous user of acme',  'none',    'none',    'none',    'none'),
    ('service_role',            'all',     'all',     'all',     'all')
) as expected (actor, selects, inserts, updates, deletes);

call clearfloor_tests.authenticate_as('owner of acme');
select throws_ok(
    'select key_hash from public.api_keys', '42501', 'permission denied for table api_keys',
    'no user can read the hash of a key'
);
reset role;

select * from finish();
rollback;
