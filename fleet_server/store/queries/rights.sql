-- Statements of fleet_server/store/roles.py: who may do what. Run as owner, outside search_path.

-- name: roles
-- "acts": the user may act as the role (SET ROLE).
SELECT wanted.name,
       pg_roles.oid IS NOT NULL AS there,
       coalesce(pg_has_role(current_user, pg_roles.oid, 'MEMBER'), false) AS acts
  FROM unnest(%(roles)s::text[]) WITH ORDINALITY AS wanted (name, place)
  LEFT JOIN pg_roles ON rolname = wanted.name
 ORDER BY place

-- name: who
SELECT current_user AS name, current_database() AS database,
       has_database_privilege(current_database(), 'CREATE') AND has_schema_privilege('public', 'CREATE') AS may_create

-- name: has_schema
SELECT to_regnamespace('fleet') IS NOT NULL

-- name: rights
-- Each right a role of ours has on something of ours: what kind, its name, the column or "", the right, the role.
SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS name, '' AS part, privilege_type AS privilege, rolname AS role
  FROM pg_namespace, aclexplode(nspacl) JOIN pg_roles ON pg_roles.oid = grantee
 WHERE nspname = 'fleet' AND rolname = ANY (%(roles)s)
 UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%%I.%%I', nspname, relname), '', privilege_type,
       rolname
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, aclexplode(relacl)
  JOIN pg_roles ON pg_roles.oid = grantee
 WHERE (nspname = 'fleet' OR nspname = 'public' AND relname LIKE 'procrastinate%%') AND rolname = ANY (%(roles)s)
 UNION ALL
SELECT 'TABLE', format('%%I.%%I', nspname, relname), quote_ident(attname), privilege_type, rolname
  FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace,
       aclexplode(attacl) JOIN pg_roles ON pg_roles.oid = grantee
 WHERE nspname = 'fleet' AND rolname = ANY (%(roles)s)
 UNION ALL
SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
       format('%%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid)), '', privilege_type, rolname
  FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace, aclexplode(proacl)
  JOIN pg_roles ON pg_roles.oid = grantee
 WHERE nspname = 'fleet' AND rolname = ANY (%(roles)s)

-- name: guarded
SELECT format('fleet.%I', relname) AS name
  FROM pg_class WHERE relnamespace = to_regnamespace('fleet') AND relrowsecurity

-- name: policies
SELECT format('fleet.%I', tablename) AS name, quote_ident(policyname) AS policy, cmd AS command,
       roles::text[] AS roles, coalesce(qual, '') AS using_, coalesce(with_check, '') AS with_check
  FROM pg_policies WHERE schemaname = 'fleet'

-- name: set_aside
ALTER SCHEMA fleet RENAME TO fleet_as_it_is

-- name: with_check
WITH CHECK ({condition})
