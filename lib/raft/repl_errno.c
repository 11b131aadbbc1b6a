/* repl_errno.c - libraft's codes and ours, in one place.
 *
 * A caller of repl_propose() must be able to tell three things apart: nobody here may
 * write now (-EROFS: ask another node, or later), the outcome is unknown (-ETIMEDOUT: the
 * entry may yet be committed, so repeat only what is idempotent), and the disk.
 */
#include "raft/repl_core_i.h"

int repl_errno_from_raft(int raft_code)
{
	switch (raft_code) {
	case 0:
		return 0;
	case RAFT_NOMEM:
		return -ENOMEM;
	case RAFT_NOTLEADER:
	case RAFT_CANTCHANGE:
	case RAFT_NOCONNECTION:
		return -EROFS;
	case RAFT_LEADERSHIPLOST:
	case RAFT_SHUTDOWN:
	case RAFT_CANCELED:
		return -ETIMEDOUT;
	case RAFT_NOSPACE:
		return -ENOSPC;
	case RAFT_BUSY:
		return -EAGAIN;
	case RAFT_CORRUPT:
	case RAFT_MALFORMED:
		return -EUCLEAN;
	case RAFT_TOOBIG:
	case RAFT_TOOMANY:
		return -EMSGSIZE;
	case RAFT_BADID:
	case RAFT_DUPLICATEID:
	case RAFT_DUPLICATEADDRESS:
	case RAFT_BADROLE:
	case RAFT_NAMETOOLONG:
	case RAFT_INVALID:
	case RAFT_CANTBOOTSTRAP:
		return -EINVAL;
	case RAFT_NOTFOUND:
		return -ENOENT;
	default:
		return -EIO;
	}
}

int repl_errno_to_raft(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOMEM:
		return RAFT_NOMEM;
	case -ENOSPC:
		return RAFT_NOSPACE;
	case -EAGAIN:
		return RAFT_BUSY;
	case -EUCLEAN:
		return RAFT_CORRUPT;
	case -EMSGSIZE:
		return RAFT_TOOBIG;
	default:
		return RAFT_IOERR;
	}
}
