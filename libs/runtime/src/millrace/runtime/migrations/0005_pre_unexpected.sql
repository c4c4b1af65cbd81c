-- Where a statement that finds something not as it was expected fails: no row can be in it.
CREATE TABLE unexpected (what text NOT NULL CHECK (false));
