/* steady.c - to be preloaded: names that a daemon makes up are the same in every run.
 *
 * strace finds a call by the path of its file (syscalls.py), so a directory with random digits in its name could not be
 * found again.  Those digits are the requests of four bytes; all other random numbers are left alone.
 */
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
	if (n != 4)
		return syscall(SYS_getrandom, p, n, flags);
	memset(p, 0x5a, n);
	return (ssize_t)n;
}
