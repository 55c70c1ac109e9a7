-- wallets: members see their organization's; money moves by the functions of clearfloor_writer only.
begin;
select plan(16);
call clearfloor_tests.create_world();

select clearfloor_tests.grants_are('wallets', role, commands)
from (values
    ('anon',              'nothing'),
    ('authenticated',     'select'),
    ('service_role',      'select'),
    ('clearfloor_writer', 'select, insert, update')
) as expected (role, commands);

-- Whose rows each comes to: anon and users by the policies alone, as if granted every command; service_role by its grants.
select clearfloor_tests.access_is('wallets', actor, selects, inserts, updates, deletes)
from (values
    --                          selects    inserts    updates    deletes
    ('anon',                    'none',    'none',    'none',    'none'),
    ('member of acme',          'acme',    'none',    'none',    'none'),
    ('owner of acme',           'acme',    'none',    'none',    'none'),
    ('member of zenith',        'zenith',  'none',    'none',    'none'),
    ('user of no organization', 'none',    'none',    'none',    'none'),
    ('anonymous user',          'none',    'none',    'none',    'none'),
    ('anonymous user of acme',  'none',    'none',    'none',    'none'),
    ('service_role',            'all',     'refused', 'refused', 'refused')
) as expected (actor, selects, inserts, updates, deletes);

select * from finish();
rollback;
