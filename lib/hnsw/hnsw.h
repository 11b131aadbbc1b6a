/* hnsw.h - the graph kind of lib/index ("hnsw"); used through index/index.h alone. */
#ifndef VECFS_HNSW_HNSW_H
#define VECFS_HNSW_HNSW_H

struct index_ops;
extern const struct index_ops hnsw_ops;

#endif
