-- stored_answers: nobody's but the functions of clearfloor_writer.
begin;
select plan(17);
call clearfloor_tests.create_world();

select clearfloor_tests.grants_are('stored_answers', role, commands)
from (values
    ('anon',              'nothing'),
    ('authenticated',     'nothing'),
    ('service_role',      'nothing'),
    ('clearfloor_writer', 'select, insert, update, delete')
) as expected (role, commands);

-- Whose rows each comes to: anon and users by the policies alone, as if granted every command; service_role by its grants.
select clearfloor_tests.access_is('stored_answers', actor, selects, inserts, updates, deletes)
from (values
    --                          selects    inserts    updates    deletes
    ('anon',                    'none',    'none',    'none',    'none'),
    ('member of acme',          'none',    'none',    'none',    'none'),
    ('owner of acme',           'none',    'none',    'none',    'none'),
    ('member of zenith',        'none',    'none',    'none',    'none'),
    ('user of no organization', 'none',    'none',    'none',    'none'),
    ('anonymous user',          'none',    'none',    'none',    'none'),
    ('anonymous user of acme',  'none',    'none',    'none',    'none'),
    ('service_role',            'refused', 'refused', 'refused', 'refused'),
    ('clearfloor_writer',       'all',     'all',     'all',     'all')
) as expected (actor, selects, inserts, updates, deletes);

select * from finish();
rollback;
