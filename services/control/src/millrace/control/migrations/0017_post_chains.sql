-- From here on orders say what their workers may go on with by themselves: a replica of a former version would order again
-- what has been begun so. That this was applied says that there is none any more; nothing else changes.
SELECT 1;
