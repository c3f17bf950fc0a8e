-- A database of an SQLite server with schema 0002, as it was stored: never to be changed. tests/server/test_stored_schemas.py
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	time DATETIME NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	caller VARCHAR(64) NOT NULL, 
	peer VARCHAR(64) NOT NULL, 
	target VARCHAR(64) NOT NULL, 
	fields VARCHAR(256) NOT NULL, 
	outcome VARCHAR(64) NOT NULL
);
CREATE TABLE collaborations (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(128) NOT NULL, 
	encrypted BOOLEAN NOT NULL, 
	CONSTRAINT uq_collaborations_name UNIQUE (name)
);
INSERT INTO "collaborations" VALUES(1,'study',1);
CREATE TABLE contents (
	result_id INTEGER NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	data BLOB, 
	payload_id VARCHAR(64), 
	CONSTRAINT pk_contents PRIMARY KEY (result_id, kind), 
	CONSTRAINT fk_contents_payload_id FOREIGN KEY(payload_id) REFERENCES payloads (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_contents_result_id FOREIGN KEY(result_id) REFERENCES results (id) ON DELETE CASCADE
);
INSERT INTO "contents" VALUES(1,'output',X'0102',NULL);
INSERT INTO "contents" VALUES(2,'input',X'0304',NULL);
CREATE TABLE events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	time DATETIME NOT NULL, 
	collaboration_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	parent_id INTEGER, 
	body BLOB NOT NULL, 
	CONSTRAINT fk_events_collaboration_id FOREIGN KEY(collaboration_id) REFERENCES collaborations (id) ON DELETE CASCADE
);
CREATE TABLE idempotency (
	caller VARCHAR(64) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	digest BLOB NOT NULL, 
	resource_id INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency PRIMARY KEY (caller, "key")
);
CREATE TABLE members (
	collaboration_id INTEGER NOT NULL, 
	organization_id INTEGER NOT NULL, 
	CONSTRAINT pk_members PRIMARY KEY (collaboration_id, organization_id), 
	CONSTRAINT fk_members_collaboration_id FOREIGN KEY(collaboration_id) REFERENCES collaborations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_members_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE RESTRICT
);
INSERT INTO "members" VALUES(1,1);
INSERT INTO "members" VALUES(1,2);
CREATE TABLE nodes (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(256) NOT NULL, 
	api_key_hash VARCHAR(64) NOT NULL, 
	organization_id INTEGER NOT NULL, 
	collaboration_id INTEGER NOT NULL, 
	online BOOLEAN NOT NULL, 
	connection INTEGER NOT NULL, 
	replica INTEGER NOT NULL, 
	last_seen DATETIME, 
	ip VARCHAR(64) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	CONSTRAINT fk_nodes_collaboration_id FOREIGN KEY(collaboration_id) REFERENCES collaborations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_nodes_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE RESTRICT, 
	CONSTRAINT uq_nodes_api_key_hash UNIQUE (api_key_hash), 
	CONSTRAINT uq_nodes_name UNIQUE (name), 
	CONSTRAINT uq_nodes_organization_id_collaboration_id UNIQUE (organization_id, collaboration_id)
);
INSERT INTO "nodes" VALUES(1,'North - study Node','a67f2ebdcf84355b58ac876b5e223bbb395f3ba0fae0505f29c605f4c3d9268d',1,1,0,0,0,NULL,'','');
INSERT INTO "nodes" VALUES(2,'South - study Node','96d5835a79bf90b35486231025a8142c08d65333c740600f3a6d1906e1446651',2,1,0,0,0,NULL,'','');
CREATE TABLE one_time_secrets (
	hash VARCHAR(64) NOT NULL, 
	user_id INTEGER NOT NULL, 
	purpose VARCHAR(16) NOT NULL, 
	expires_at DATETIME, 
	CONSTRAINT pk_one_time_secrets PRIMARY KEY (hash), 
	CONSTRAINT fk_one_time_secrets_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE organizations (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(128) NOT NULL, 
	domain VARCHAR(253) NOT NULL, 
	address1 VARCHAR(256) NOT NULL, 
	address2 VARCHAR(256) NOT NULL, 
	zipcode VARCHAR(32) NOT NULL, 
	country VARCHAR(128) NOT NULL, 
	public_key BLOB NOT NULL, 
	CONSTRAINT uq_organizations_name UNIQUE (name)
);
INSERT INTO "organizations" VALUES(1,'North','north.example','','','','',X'');
INSERT INTO "organizations" VALUES(2,'South','','','','','',X'');
CREATE TABLE payloads (
	id VARCHAR(64) NOT NULL, 
	collaboration_id INTEGER NOT NULL, 
	creator VARCHAR(64) NOT NULL, 
	idempotency_key VARCHAR(64), 
	result_id INTEGER, 
	size BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	sha256 BLOB NOT NULL, 
	complete BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_payloads PRIMARY KEY (id), 
	CONSTRAINT fk_payloads_collaboration_id FOREIGN KEY(collaboration_id) REFERENCES collaborations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_payloads_creator_idempotency_key UNIQUE (creator, idempotency_key)
);
CREATE TABLE results (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	task_id INTEGER NOT NULL, 
	organization_id INTEGER NOT NULL, 
	state INTEGER NOT NULL, 
	reason VARCHAR(64) NOT NULL, 
	message TEXT NOT NULL, 
	epoch INTEGER NOT NULL, 
	losses INTEGER NOT NULL, 
	assigned_at DATETIME, 
	started_at DATETIME, 
	finished_at DATETIME, 
	CONSTRAINT fk_results_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_results_task_id FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE, 
	CONSTRAINT uq_results_task_id_organization_id UNIQUE (task_id, organization_id)
);
INSERT INTO "results" VALUES(1,1,1,5,'','',1,0,'2026-01-05 09:00:01.000000','2026-01-05 09:00:02.000000','2026-01-05 09:01:00.000000');
INSERT INTO "results" VALUES(2,2,2,1,'','',0,0,NULL,NULL,NULL);
CREATE TABLE roles (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(64) NOT NULL, 
	description TEXT NOT NULL, 
	organization_id INTEGER, 
	CONSTRAINT fk_roles_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_roles_organization_id_name UNIQUE (organization_id, name)
);
INSERT INTO "roles" VALUES(1,'root','Runs the server.',NULL);
INSERT INTO "roles" VALUES(2,'organization_admin','Keeps one organization: its data, users, roles and nodes.',NULL);
INSERT INTO "roles" VALUES(3,'collaboration_admin','Keeps the collaborations of the own organization, and their tasks.',NULL);
INSERT INTO "roles" VALUES(4,'researcher','Runs tasks in the collaborations of the own organization.',NULL);
INSERT INTO "roles" VALUES(5,'viewer','Looks on.',NULL);
CREATE TABLE rules (
	role_id INTEGER NOT NULL, 
	resource VARCHAR(32) NOT NULL, 
	operation VARCHAR(16) NOT NULL, 
	scope VARCHAR(16) NOT NULL, 
	CONSTRAINT pk_rules PRIMARY KEY (role_id, resource, operation), 
	CONSTRAINT fk_rules_role_id FOREIGN KEY(role_id) REFERENCES roles (id) ON DELETE CASCADE
);
INSERT INTO "rules" VALUES(1,'organization','view','global');
INSERT INTO "rules" VALUES(1,'organization','create','global');
INSERT INTO "rules" VALUES(1,'organization','edit','global');
INSERT INTO "rules" VALUES(1,'organization','delete','global');
INSERT INTO "rules" VALUES(1,'collaboration','view','global');
INSERT INTO "rules" VALUES(1,'collaboration','create','global');
INSERT INTO "rules" VALUES(1,'collaboration','edit','global');
INSERT INTO "rules" VALUES(1,'collaboration','delete','global');
INSERT INTO "rules" VALUES(1,'node','view','global');
INSERT INTO "rules" VALUES(1,'node','create','global');
INSERT INTO "rules" VALUES(1,'node','edit','global');
INSERT INTO "rules" VALUES(1,'node','delete','global');
INSERT INTO "rules" VALUES(1,'user','view','global');
INSERT INTO "rules" VALUES(1,'user','create','global');
INSERT INTO "rules" VALUES(1,'user','edit','global');
INSERT INTO "rules" VALUES(1,'user','delete','global');
INSERT INTO "rules" VALUES(1,'role','view','global');
INSERT INTO "rules" VALUES(1,'role','create','global');
INSERT INTO "rules" VALUES(1,'role','edit','global');
INSERT INTO "rules" VALUES(1,'role','delete','global');
INSERT INTO "rules" VALUES(1,'task','view','global');
INSERT INTO "rules" VALUES(1,'task','create','global');
INSERT INTO "rules" VALUES(1,'task','edit','global');
INSERT INTO "rules" VALUES(1,'task','delete','global');
INSERT INTO "rules" VALUES(1,'result','view','global');
INSERT INTO "rules" VALUES(1,'result','create','global');
INSERT INTO "rules" VALUES(1,'result','edit','global');
INSERT INTO "rules" VALUES(1,'result','delete','global');
INSERT INTO "rules" VALUES(1,'event','view','global');
INSERT INTO "rules" VALUES(1,'event','create','global');
INSERT INTO "rules" VALUES(1,'event','edit','global');
INSERT INTO "rules" VALUES(1,'event','delete','global');
INSERT INTO "rules" VALUES(1,'audit','view','global');
INSERT INTO "rules" VALUES(1,'audit','create','global');
INSERT INTO "rules" VALUES(1,'audit','edit','global');
INSERT INTO "rules" VALUES(1,'audit','delete','global');
INSERT INTO "rules" VALUES(2,'organization','view','collaboration');
INSERT INTO "rules" VALUES(2,'organization','edit','organization');
INSERT INTO "rules" VALUES(2,'collaboration','view','collaboration');
INSERT INTO "rules" VALUES(2,'node','view','collaboration');
INSERT INTO "rules" VALUES(2,'node','create','organization');
INSERT INTO "rules" VALUES(2,'node','edit','organization');
INSERT INTO "rules" VALUES(2,'node','delete','organization');
INSERT INTO "rules" VALUES(2,'user','view','organization');
INSERT INTO "rules" VALUES(2,'user','create','organization');
INSERT INTO "rules" VALUES(2,'user','edit','organization');
INSERT INTO "rules" VALUES(2,'user','delete','organization');
INSERT INTO "rules" VALUES(2,'role','view','organization');
INSERT INTO "rules" VALUES(2,'role','create','organization');
INSERT INTO "rules" VALUES(2,'role','edit','organization');
INSERT INTO "rules" VALUES(2,'role','delete','organization');
INSERT INTO "rules" VALUES(2,'task','view','collaboration');
INSERT INTO "rules" VALUES(2,'task','create','collaboration');
INSERT INTO "rules" VALUES(2,'task','edit','organization');
INSERT INTO "rules" VALUES(2,'task','delete','organization');
INSERT INTO "rules" VALUES(2,'result','view','collaboration');
INSERT INTO "rules" VALUES(2,'event','view','collaboration');
INSERT INTO "rules" VALUES(3,'organization','view','collaboration');
INSERT INTO "rules" VALUES(3,'collaboration','view','collaboration');
INSERT INTO "rules" VALUES(3,'collaboration','edit','collaboration');
INSERT INTO "rules" VALUES(3,'collaboration','delete','collaboration');
INSERT INTO "rules" VALUES(3,'node','view','collaboration');
INSERT INTO "rules" VALUES(3,'node','create','collaboration');
INSERT INTO "rules" VALUES(3,'node','edit','collaboration');
INSERT INTO "rules" VALUES(3,'node','delete','collaboration');
INSERT INTO "rules" VALUES(3,'role','view','organization');
INSERT INTO "rules" VALUES(3,'task','view','collaboration');
INSERT INTO "rules" VALUES(3,'task','create','collaboration');
INSERT INTO "rules" VALUES(3,'task','edit','collaboration');
INSERT INTO "rules" VALUES(3,'task','delete','collaboration');
INSERT INTO "rules" VALUES(3,'result','view','collaboration');
INSERT INTO "rules" VALUES(3,'event','view','collaboration');
INSERT INTO "rules" VALUES(4,'organization','view','collaboration');
INSERT INTO "rules" VALUES(4,'collaboration','view','collaboration');
INSERT INTO "rules" VALUES(4,'node','view','collaboration');
INSERT INTO "rules" VALUES(4,'task','view','collaboration');
INSERT INTO "rules" VALUES(4,'task','create','collaboration');
INSERT INTO "rules" VALUES(4,'task','edit','own');
INSERT INTO "rules" VALUES(4,'task','delete','own');
INSERT INTO "rules" VALUES(4,'result','view','collaboration');
INSERT INTO "rules" VALUES(4,'event','view','collaboration');
INSERT INTO "rules" VALUES(5,'organization','view','collaboration');
INSERT INTO "rules" VALUES(5,'collaboration','view','collaboration');
INSERT INTO "rules" VALUES(5,'node','view','collaboration');
INSERT INTO "rules" VALUES(5,'task','view','collaboration');
INSERT INTO "rules" VALUES(5,'result','view','collaboration');
INSERT INTO "rules" VALUES(5,'event','view','collaboration');
CREATE TABLE second_factors (
	user_id INTEGER NOT NULL, 
	secret BLOB NOT NULL, 
	confirmed BOOLEAN NOT NULL, 
	last_step BIGINT NOT NULL, 
	CONSTRAINT pk_second_factors PRIMARY KEY (user_id), 
	CONSTRAINT fk_second_factors_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE sequences (
	name VARCHAR(32) NOT NULL, 
	value INTEGER NOT NULL, 
	CONSTRAINT pk_sequences PRIMARY KEY (name)
);
CREATE TABLE sessions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	user_id INTEGER, 
	node_id INTEGER, 
	refresh_hash VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	last_used_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	revoked BOOLEAN NOT NULL, 
	ip VARCHAR(64) NOT NULL, 
	CONSTRAINT fk_sessions_node_id FOREIGN KEY(node_id) REFERENCES nodes (id) ON DELETE CASCADE, 
	CONSTRAINT fk_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_sessions_refresh_hash UNIQUE (refresh_hash)
);
CREATE TABLE tasks (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	collaboration_id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	digest BLOB NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	description TEXT NOT NULL, 
	image VARCHAR(512) NOT NULL, 
	run_id INTEGER NOT NULL, 
	databases JSON NOT NULL, 
	initiator_id INTEGER, 
	user_id INTEGER, 
	parent_id INTEGER, 
	priority INTEGER NOT NULL, 
	retries INTEGER NOT NULL, 
	min_results INTEGER, 
	deadline DATETIME, 
	state INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	CONSTRAINT fk_tasks_collaboration_id FOREIGN KEY(collaboration_id) REFERENCES collaborations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_tasks_initiator_id FOREIGN KEY(initiator_id) REFERENCES organizations (id) ON DELETE SET NULL, 
	CONSTRAINT fk_tasks_parent_id FOREIGN KEY(parent_id) REFERENCES tasks (id) ON DELETE CASCADE, 
	CONSTRAINT fk_tasks_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE SET NULL, 
	CONSTRAINT uq_tasks_collaboration_id_key UNIQUE (collaboration_id, "key")
);
INSERT INTO "tasks" VALUES(1,1,'key-1',X'00','old task','','vantage6/examples/average:1',1,'["default"]',1,2,NULL,0,0,NULL,NULL,3,'2026-01-05 09:00:00.000000','2026-01-05 09:01:00.000000');
INSERT INTO "tasks" VALUES(2,1,'key-2',X'00','open task','','vantage6/examples/average:1',2,'["default"]',1,2,NULL,0,1,NULL,NULL,1,'2026-01-06 09:00:00.000000',NULL);
CREATE TABLE user_roles (
	user_id INTEGER NOT NULL, 
	role_id INTEGER NOT NULL, 
	CONSTRAINT pk_user_roles PRIMARY KEY (user_id, role_id), 
	CONSTRAINT fk_user_roles_role_id FOREIGN KEY(role_id) REFERENCES roles (id) ON DELETE CASCADE, 
	CONSTRAINT fk_user_roles_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "user_roles" VALUES(1,1);
INSERT INTO "user_roles" VALUES(2,4);
CREATE TABLE users (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	username VARCHAR(128) NOT NULL, 
	email VARCHAR(254) NOT NULL, 
	password_hash VARCHAR(256) NOT NULL, 
	firstname VARCHAR(128) NOT NULL, 
	lastname VARCHAR(128) NOT NULL, 
	organization_id INTEGER, 
	last_seen DATETIME, 
	ip VARCHAR(64) NOT NULL, 
	CONSTRAINT fk_users_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_users_email UNIQUE (email), 
	CONSTRAINT uq_users_username UNIQUE (username)
);
INSERT INTO "users" VALUES(1,'root','root@central.example','$argon2id$v=19$m=65536,t=3,p=4$JY6ZDytHAABcMXTMSkFlwQ$Sd7THUktovZYp++hCqy/J2tvG6/dlfvw83qy5SrI4V0','','',NULL,NULL,'');
INSERT INTO "users" VALUES(2,'ada','ada@north.example','$argon2id$v=19$m=65536,t=3,p=4$h3jfEkPzF4M0KiPpz0x69A$GZSBAfsuz7ho0dN9TaozMDBEBj3oK8NyJpfrAOZd40k','','',1,NULL,'');
CREATE INDEX ix_members_organization_id ON members (organization_id);
CREATE INDEX ix_nodes_collaboration_id ON nodes (collaboration_id);
CREATE INDEX ix_users_organization_id ON users (organization_id);
CREATE INDEX ix_user_roles_role_id ON user_roles (role_id);
CREATE INDEX ix_sessions_node_id ON sessions (node_id);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
CREATE INDEX ix_one_time_secrets_user_id ON one_time_secrets (user_id);
CREATE INDEX ix_audit_time ON audit (time);
CREATE INDEX ix_audit_caller ON audit (caller);
CREATE INDEX ix_audit_target ON audit (target);
CREATE INDEX ix_tasks_deadline ON tasks (deadline);
CREATE INDEX ix_tasks_parent_id ON tasks (parent_id);
CREATE INDEX ix_tasks_run_id ON tasks (run_id);
CREATE INDEX ix_payloads_collaboration_id ON payloads (collaboration_id);
CREATE INDEX ix_results_open ON results (organization_id, state) WHERE state <= 4;
CREATE INDEX ix_results_organization_id ON results (organization_id);
CREATE INDEX ix_contents_payload_id ON contents (payload_id);
CREATE INDEX ix_events_collaboration_id ON events (collaboration_id);
CREATE INDEX ix_events_parent_id ON events (parent_id);
CREATE INDEX ix_events_task_id_id ON events (task_id, id);
CREATE INDEX ix_tasks_collaboration_id_id ON tasks (collaboration_id, id);
CREATE INDEX ix_tasks_user_id_id ON tasks (user_id, id);
CREATE INDEX ix_tasks_initiator_id_id ON tasks (initiator_id, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('roles',5);
INSERT INTO "sqlite_sequence" VALUES('users',2);
INSERT INTO "sqlite_sequence" VALUES('organizations',2);
INSERT INTO "sqlite_sequence" VALUES('collaborations',1);
INSERT INTO "sqlite_sequence" VALUES('nodes',2);
INSERT INTO "sqlite_sequence" VALUES('tasks',2);
INSERT INTO "sqlite_sequence" VALUES('results',2);
COMMIT;
