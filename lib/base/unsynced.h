/* unsynced.h - files of which a sync has failed.
 *
 * When the kernel cannot write a page back it says so once, to whoever syncs next, and takes the page for
 * written from then on.  A process that starts later on the same boot reads that page from memory, finds
 * it right, syncs it with success, and a power cut takes it.  So who fails to sync leaves a note,
 * and who starts next has the kernel forget what it holds of these files: what is read then is what
 * the disk has.  The note need not survive a reboot, and is not synced.
 *
 * Threads: none of their own; one process per directory.
 */
#ifndef VECFS_BASE_UNSYNCED_H
#define VECFS_BASE_UNSYNCED_H

#include "base/base.h"

#define UNSYNCED_NAME "unsynced"

/* A sync of a file in 'dir' has failed.  Best effort: where no file can be made, none can be written. */
void unsynced_note(const char *dir);

/* With a note in 'dir': drops all that is clean in the page cache of the regular files in it (and of
 * those in directories below, 'deep'), then the note.  To be called before any of them is mapped.
 * *ret_noted says whether there was one.  -ENOMEM, or an errno of reading directories. */
VX_MUST_CHECK
int unsynced_settle(const char *dir, bool deep, bool *ret_noted);

#endif
