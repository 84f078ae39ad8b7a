"""The stores of Redis and Valkey: one server, Sentinels, a Cluster. Imported where redis-py is."""
