-- Queues of teams, beside those of the seven services. Topics have no namespace, so that a name is one namespace's only.
CREATE TABLE queue (
    name text PRIMARY KEY,
    namespace text NOT NULL,
    principal text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    live boolean NOT NULL DEFAULT false
);
