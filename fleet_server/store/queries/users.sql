-- Statements of fleet_server/sovereignty/users.py and users_cli.py: accounts of the web and their sessions.

-- name: put_user
INSERT INTO fleet.app_user (user_id, tenant_id, person_id, role, password_hash, one_time, created_at)
VALUES (%(user_id)s, %(tenant_id)s, %(person_id)s, %(role)s, %(password_hash)s, %(one_time)s, %(now)s)
ON CONFLICT (user_id) DO UPDATE
   SET tenant_id = excluded.tenant_id, person_id = excluded.person_id, role = excluded.role,
       password_hash = excluded.password_hash, one_time = excluded.one_time, active = true

-- name: lock_active_user
-- Held until the end of the transaction, so that of two who use one one-time password one wins.
SELECT * FROM fleet.app_user WHERE user_id = %(user_id)s AND active FOR UPDATE

-- name: use_up
UPDATE fleet.app_user SET password_hash = %(password_hash)s WHERE user_id = %(user_id)s

-- name: set_password
UPDATE fleet.app_user SET password_hash = %(password_hash)s, one_time = false WHERE user_id = %(user_id)s

-- name: users
SELECT user_id, role, tenant_id, person_id, one_time, active FROM app_user ORDER BY user_id LIMIT 1000

-- name: disable_user
UPDATE app_user SET active = false WHERE user_id = %(user_id)s RETURNING tenant_id

-- name: forget_expired_sessions
DELETE FROM fleet.web_session WHERE expires_at < %(now)s

-- name: end_oldest_sessions
DELETE FROM fleet.web_session
 WHERE token_hash IN (SELECT token_hash FROM fleet.web_session
                       WHERE user_id = %(user_id)s ORDER BY created_at DESC OFFSET %(kept)s)

-- name: start_session
INSERT INTO fleet.web_session (token_hash, user_id, created_at, expires_at)
VALUES (%(token_hash)s, %(user_id)s, %(now)s, %(expires_at)s)

-- name: session_user
SELECT app_user.* FROM fleet.web_session JOIN fleet.app_user USING (user_id)
 WHERE token_hash = %(token_hash)s AND expires_at > %(now)s AND active

-- name: end_session
DELETE FROM fleet.web_session WHERE token_hash = %(token_hash)s

-- name: end_sessions
DELETE FROM fleet.web_session WHERE user_id = %(user_id)s

-- name: password_hash_of
SELECT password_hash FROM fleet.app_user WHERE user_id = %(user_id)s AND active
