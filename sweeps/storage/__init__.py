"""What a study is kept in: Parquet tables, an Optuna database, an object store, a lock."""
