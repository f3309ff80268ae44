-- Tables, indexes, triggers, windows, full-text search, big blobs, a vacuum and the database's own check.
PRAGMA page_size = 4096;
PRAGMA cache_size = 20000;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, stuff BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, 'item ' || ((i * 7919) % 60000), (i * 31 % 1000) / 7.0, zeroblob(i % 97) FROM n;
CREATE INDEX item_name ON item (name, price);
CREATE TABLE log (at INTEGER, what TEXT);
CREATE TRIGGER gone AFTER DELETE ON item BEGIN INSERT INTO log VALUES (old.id, 'gone ' || old.name); END;
DELETE FROM item WHERE id % 13 = 5;
UPDATE item SET name = name || ' changed', stuff = zeroblob(3000) WHERE id % 101 = 0;
INSERT INTO item VALUES (100001, 'big', 1, zeroblob(30000000));
SELECT count(*), sum(length(stuff)), round(sum(price), 3), min(name), max(name) FROM item;
SELECT count(*), sum(at), max(what) FROM log;
SELECT a.id, b.id FROM item a JOIN item b ON a.name = b.name AND a.id < b.id ORDER BY a.id LIMIT 20;
SELECT id, name, rank() OVER (PARTITION BY id % 10 ORDER BY price DESC, id) AS place FROM item WHERE id < 200 ORDER BY place, id;
SELECT id % 50, group_concat(name, ',') FROM (SELECT * FROM item WHERE id < 2000 ORDER BY id) GROUP BY 1;
SELECT json_group_array(json_object('id', id, 'name', name)) FROM (SELECT * FROM item ORDER BY id LIMIT 300);
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words SELECT 'some words ' || name || ' of row ' || id FROM item WHERE id % 3 = 0;
SELECT count(*) FROM words WHERE words MATCH 'changed';
SELECT rowid, body FROM words WHERE words MATCH 'changed AND row' ORDER BY rowid LIMIT 10;
BEGIN;
DELETE FROM item;
ROLLBACK;
VACUUM;
PRAGMA integrity_check;
SELECT upper(hex(name)) FROM item ORDER BY name DESC, id LIMIT 20;
