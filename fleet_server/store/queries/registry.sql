-- Idempotent imports of the registry. What devices or people changed since is not taken back.

-- name: tenant
INSERT INTO tenant (tenant_id, name, jurisdiction, policy)
VALUES (%(tenant_id)s, %(name)s, %(jurisdiction)s, %(policy)s)
ON CONFLICT (tenant_id) DO UPDATE
   SET name = excluded.name, jurisdiction = excluded.jurisdiction, policy = excluded.policy

-- name: site
INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone, latitude, longitude, wms_kind, wms_config)
VALUES (%(site_id)s, %(tenant_id)s, %(name)s, %(region)s, %(jurisdiction)s, %(time_zone)s, %(latitude)s, %(longitude)s,
        %(wms_kind)s, %(wms_config)s)
ON CONFLICT (site_id) DO UPDATE
   SET name = excluded.name, region = excluded.region, jurisdiction = excluded.jurisdiction,
       time_zone = excluded.time_zone, latitude = excluded.latitude, longitude = excluded.longitude,
       wms_kind = excluded.wms_kind, wms_config = excluded.wms_config
 WHERE site.tenant_id = excluded.tenant_id
RETURNING site_id

-- name: person
INSERT INTO person (person_id, tenant_id, name, email, role, site_id, region, skills, webhook_url, active)
VALUES (%(person_id)s, %(tenant_id)s, %(name)s, %(email)s, %(role)s, %(site_id)s, %(region)s, %(skills)s,
        %(webhook_url)s, %(active)s)
ON CONFLICT (person_id) DO UPDATE
   SET tenant_id = excluded.tenant_id, name = excluded.name, email = excluded.email, role = excluded.role,
       site_id = excluded.site_id, region = excluded.region, skills = excluded.skills,
       webhook_url = excluded.webhook_url, active = excluded.active
RETURNING person_id

-- name: agent
INSERT INTO agent (agent_id, tenant_id, site_id, registered_at, third_party)
SELECT %(agent_id)s, site.tenant_id, site.site_id, %(now)s, %(third_party)s FROM site WHERE site.site_id = %(site_id)s
ON CONFLICT (agent_id) DO UPDATE SET site_id = excluded.site_id, third_party = excluded.third_party
 WHERE agent.tenant_id = excluded.tenant_id
RETURNING agent_id

-- name: asset
INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial, firmware, equipment_ref,
                   criticality, in_service_at)
SELECT %(asset_id)s, agent.tenant_id, agent.site_id, agent.agent_id, %(name)s, %(asset_class)s, %(model)s, %(serial)s,
       %(firmware)s, %(equipment_ref)s, %(criticality)s, %(in_service_at)s
  FROM agent WHERE agent.agent_id = %(agent_id)s
ON CONFLICT (asset_id) DO UPDATE
   SET site_id = excluded.site_id, agent_id = excluded.agent_id, name = excluded.name,
       asset_class = excluded.asset_class, model = excluded.model, serial = excluded.serial,
       equipment_ref = excluded.equipment_ref,
       criticality = excluded.criticality,
       in_service_at = coalesce(excluded.in_service_at, asset.in_service_at)
 WHERE asset.tenant_id = excluded.tenant_id
RETURNING asset_id, tenant_id

-- name: component
-- "correct": the file says another serial number than it said before.
INSERT INTO component AS c (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from, registry_serial)
VALUES (%(tenant_id)s, %(asset_id)s, %(slot)s, %(type)s, %(serial)s, %(part_no)s, %(valid_from)s, %(serial)s)
ON CONFLICT (asset_id, slot) WHERE valid_to IS NULL DO UPDATE
   SET component_type = excluded.component_type, part_no = excluded.part_no,
       serial = CASE WHEN %(correct)s THEN excluded.serial ELSE c.serial END,
       registry_serial = excluded.registry_serial
RETURNING component_id

-- name: installed
SELECT component_type, serial, part_no, valid_from, reported_serial, registry_serial
  FROM component WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND valid_to IS NULL FOR UPDATE

-- name: end_installed
UPDATE component SET valid_to = %(valid_from)s
 WHERE asset_id = %(asset_id)s AND slot = %(slot)s AND valid_to IS NULL

-- name: contract
INSERT INTO contract (contract_id, tenant_id, kind, asset_serial, component_types, valid_from, valid_to, terms)
VALUES (%(contract_id)s, %(tenant_id)s, %(kind)s, %(asset_serial)s, %(component_types)s, %(valid_from)s, %(valid_to)s,
        %(terms)s)
ON CONFLICT (contract_id) DO UPDATE
   SET kind = excluded.kind, asset_serial = excluded.asset_serial, component_types = excluded.component_types,
       valid_from = excluded.valid_from, valid_to = excluded.valid_to, terms = excluded.terms
 WHERE contract.tenant_id = excluded.tenant_id
RETURNING contract_id

-- name: part
INSERT INTO part (part_no, component_type, label, fits_models, price_eur, replenish_days)
VALUES (%(part_no)s, %(component_type)s, %(label)s, %(fits_models)s, %(price_eur)s, %(replenish_days)s)
ON CONFLICT (part_no) DO UPDATE
   SET component_type = excluded.component_type, label = excluded.label, fits_models = excluded.fits_models,
       price_eur = excluded.price_eur, replenish_days = excluded.replenish_days
RETURNING part_no

-- name: centre
INSERT INTO fulfilment_centre (centre_id, name, region, jurisdiction, latitude, longitude, handling_h)
VALUES (%(centre_id)s, %(name)s, %(region)s, %(jurisdiction)s, %(latitude)s, %(longitude)s, %(handling_h)s)
ON CONFLICT (centre_id) DO UPDATE
   SET name = excluded.name, region = excluded.region, jurisdiction = excluded.jurisdiction,
       latitude = excluded.latitude, longitude = excluded.longitude, handling_h = excluded.handling_h
RETURNING centre_id

-- name: lock_stock
-- Whoever reserves or gives back waits here, so that the next statement sees every reservation or none of it.
SELECT 1 FROM stock WHERE centre_id = %(centre_id)s AND part_no = %(part_no)s FOR UPDATE

-- name: stock
-- A count of the shelf has the reserved pieces in it: they are not free, and where there are fewer than are promised,
-- as many of those given back are not free either.
INSERT INTO stock AS s (centre_id, part_no, on_hand, short, on_order)
SELECT %(centre_id)s, %(part_no)s, greatest(0, %(on_hand)s::int - held.pieces), greatest(0, held.pieces - %(on_hand)s::int),
       %(on_order)s
  FROM (SELECT coalesce(sum(quantity), 0)::int AS pieces FROM part_reservation
         WHERE centre_id = %(centre_id)s AND part_no = %(part_no)s AND state = 'held') AS held
ON CONFLICT (centre_id, part_no) DO UPDATE
   SET on_hand = CASE WHEN %(reset_stock)s THEN excluded.on_hand ELSE s.on_hand END,
       short = CASE WHEN %(reset_stock)s THEN excluded.short ELSE s.short END,
       on_order = excluded.on_order
RETURNING centre_id

-- name: first_firmware
-- What a device said of its firmware since is not overwritten by the registry.
INSERT INTO firmware_history (asset_id, tenant_id, firmware, seen_at)
SELECT %(asset_id)s, %(tenant_id)s, %(firmware)s, %(seen_at)s
 WHERE NOT EXISTS (SELECT FROM firmware_history WHERE asset_id = %(asset_id)s)

-- name: people_out_of_reach
SELECT person_id, role FROM person
 WHERE active AND role IN ('case_owner', 'fleet_operator', 'administrator', 'operations_director', 'site_manager')
   AND NOT ((%(email)s AND email <> '') OR (%(webhook)s AND coalesce(webhook_url, '') <> ''))
 ORDER BY person_id LIMIT 50

-- name: tenants_without_last_line
SELECT tenant_id FROM tenant
 WHERE NOT EXISTS (SELECT FROM person
                    WHERE active AND (person.tenant_id IS NULL OR person.tenant_id = tenant.tenant_id)
                      AND (role IN ('case_owner', 'fleet_operator', 'administrator')
                           OR person_id = tenant.policy ->> 'last_line')
                      AND ((%(email)s AND email <> '') OR (%(webhook)s AND coalesce(webhook_url, '') <> '')))
 ORDER BY tenant_id LIMIT 50

-- name: row_as_it_is
-- the table and the condition on its key are put in from registry_kept.TABLES
SELECT * FROM {table} WHERE {keys} FOR UPDATE
