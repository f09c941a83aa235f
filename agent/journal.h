// SPDX-License-Identifier: Apache-2.0
// What we made and what we changed, on disk before it is done: who owns what, and what to give back. Floor 2.
//
// One JSON file, replaced as a whole (write, fsync, rename, fsync of the folder). A file that cannot be read is put
// aside as journal.json.bad and said so; the agent then owns nothing and leaves what it finds.
//
// Whoever may change the journal holds RUN_DIR/lock (flock(2)) from before it is read: an agent as long as it lives,
// and "restore". The kernel lets go of it when a process dies.
#ifndef BRASS_AGENT_JOURNAL_H
#define BRASS_AGENT_JOURNAL_H

#include "agent/resource_list.h"
#include "shared/err.h"

struct journal {
	char path[512];
	struct resource_list list;
	bool locked; // by us
	int lock;    // then: the file
};

// Reads RUN_DIR/journal.json; without a file the journal is empty. Makes the folder when it is missing. -EBUSY:
// somebody else holds the lock.
int journal_open(const char *run_dir, struct journal *ret, struct err *err);
// The same without making or moving anything. -EINVAL: it makes no sense.
int journal_peek(const char *run_dir, struct journal *ret, struct err *err);
int journal_save(const struct journal *journal, struct err *err);
// Lets others in.
void journal_close(struct journal *journal);

// Replaces a file as a whole; used for every file that the agent keeps.
int journal_write_file(const char *path, const json_t *json, struct err *err);

#endif
