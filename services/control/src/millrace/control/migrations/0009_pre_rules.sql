-- The version of all that is made of events from outside: who keeps rules in memory sees by it that they are others now.
CREATE TABLE rules (
    version uuid NOT NULL DEFAULT gen_random_uuid(),
    the_only_one bool PRIMARY KEY DEFAULT true CHECK (the_only_one)
);
INSERT INTO rules DEFAULT VALUES;

-- By triggers, so that a replica of the former version changes it too.
CREATE FUNCTION rules_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rules SET version = gen_random_uuid();
    RETURN NULL;
END
$$;
-- At the end of the transaction, so that who applies something holds this row only for as long as it commits.
CREATE CONSTRAINT TRIGGER rules_changed AFTER INSERT OR DELETE OR UPDATE ON source
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rules_changed();
CREATE CONSTRAINT TRIGGER rules_changed AFTER INSERT OR DELETE OR UPDATE ON workflow
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rules_changed();
-- Not when a run is queued.
CREATE CONSTRAINT TRIGGER rules_changed AFTER INSERT OR DELETE OR UPDATE OF topic, workflow, document, principal
    ON trigger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rules_changed();
