-- Steps (epochs and iterations), evaluations and seconds until the loss is a tenth of its first value, and until the
-- error is below 10 %: medians over the replicates that got there, NULL where none did; n are those below 10 %.
WITH first AS (
    SELECT study, trial, replicate, arg_min(loss, evaluations) AS first_loss, max(step) FILTER (phase = 'first') AS epochs
    FROM curves GROUP BY ALL
), course AS (
    SELECT *, loss / first_loss AS share, CASE phase WHEN 'first' THEN step ELSE epochs + step END AS steps
    FROM curves JOIN first USING (study, trial, replicate)
), reached AS (
    SELECT study, trial, replicate,
        min(steps) FILTER (share <= 0.1) AS loss_steps,
        min(evaluations) FILTER (share <= 0.1) AS loss_evaluations,
        min(time_s) FILTER (share <= 0.1) AS loss_seconds,
        min(steps) FILTER (rel_l2 <= 0.1) AS error_steps,
        min(evaluations) FILTER (rel_l2 <= 0.1) AS error_evaluations,
        min(time_s) FILTER (rel_l2 <= 0.1) AS error_seconds
    FROM course GROUP BY ALL
)
SELECT scale_scope, scale_factor,
    median(loss_steps) AS steps_to_loss, median(loss_evaluations) AS evaluations_to_loss,
    median(loss_seconds) AS seconds_to_loss, median(error_steps) AS steps_to_error,
    median(error_evaluations) AS evaluations_to_error, median(error_seconds) AS seconds_to_error,
    count(error_steps) AS n, median(rel_l2) AS error_at_end, median(equation_error) AS error_of_equation
FROM trials JOIN reached USING (study, trial, replicate)
GROUP BY scale_scope, scale_factor ORDER BY scale_scope DESC, scale_factor
