//! The whole chain: a container that starves behind a neighbor, its spans in Jaeger and Tempo with the time it waited.
