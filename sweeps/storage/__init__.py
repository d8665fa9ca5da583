"""Storage of a study: Parquet tables, an Optuna database, an object store, a lock."""
