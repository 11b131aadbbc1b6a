/* cmd.c - an embedder that is a program: a line of text in, a line with a JSON vector out.
 *
 * The program is started at once through the shell and lives as long as the embedder.  Lines are written
 * and answers read in one poll loop, so that neither side can block the other however large the batch.
 * What can fail: the program cannot be started, dies (its status is told), answers with something that is no
 * vector, or keeps its output in a buffer, which shows as silence.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "codec/codec.h"
#include "embed/embed_i.h"

#define SILENCE_MS    120000
#define ANSWER_MAX    (4u << 20) /* bytes of one answer */
#define EXIT_WAIT_MS  2000
#define EXIT_PAUSE_NS (2 * 1000 * 1000)

extern char **environ;

struct cmd {
	pid_t pid; /* 0: reaped */
	int to, from;
	int status;
	struct codec_arena *arena;
	struct buf in, answer;
};

/* Both ends close at exec; the child gets its two by dup2. */
static int spawn(struct cmd *c, const char *command, struct vx_err *err)
{
	char *const argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)command, NULL};
	posix_spawn_file_actions_t fa;
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC))
		return vx_err_set(err, -errno, "cannot make a pipe");
	if (pipe2(out, O_CLOEXEC)) {
		int rc = -errno;
		close(in[0]);
		close(in[1]);
		return vx_err_set(err, rc, "cannot make a pipe");
	}
	int rc = posix_spawn_file_actions_init(&fa);
	if (rc == 0) {
		rc = posix_spawn_file_actions_adddup2(&fa, in[0], 0);
		if (rc == 0)
			rc = posix_spawn_file_actions_adddup2(&fa, out[1], 1);
		if (rc == 0)
			rc = posix_spawn(&c->pid, "/bin/sh", &fa, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&fa);
	}
	close(in[0]);
	close(out[1]);
	c->to = in[1];
	c->from = out[0];
	if (rc) {
		c->pid = 0;
		return vx_err_set(err, -rc, "cannot start '%.80s': %s", command, strerror(rc));
	}
	if (fcntl(c->to, F_SETFL, O_NONBLOCK) || fcntl(c->from, F_SETFL, O_NONBLOCK))
		return vx_err_set(err, -errno, "cannot set a pipe non-blocking");
	return 0;
}

int cmd_open(const char *command, struct cmd **ret, struct vx_err *err)
{
	if (!command[strspn(command, " \t")])
		return vx_err_set(err, -EINVAL, "the embedder's command is empty");
	struct cmd *c = calloc(1, sizeof *c);
	if (!c)
		return vx_err_set(err, -ENOMEM, "out of memory");
	c->to = c->from = -1;
	c->arena = codec_arena_new();
	int rc = c->arena ? spawn(c, command, err) : vx_err_set(err, -ENOMEM, "out of memory");
	if (rc) {
		cmd_close(c);
		return rc;
	}
	*ret = c;
	return 0;
}

/* Waits for the end of a program whose pipes are closed, a moment at most. */
static bool reap(struct cmd *c, int wait_ms)
{
	uint64_t until = clock_mono_ns() + (uint64_t)wait_ms * 1000000u;

	while (c->pid) {
		pid_t got = waitpid(c->pid, &c->status, WNOHANG);
		if (got == c->pid || (got < 0 && errno != EINTR)) {
			c->pid = 0;
			break;
		}
		if (clock_mono_ns() >= until)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = EXIT_PAUSE_NS}, NULL);
	}
	return true;
}

void cmd_close(struct cmd *c)
{
	if (!c)
		return;
	if (c->to >= 0)
		close(c->to);
	if (c->from >= 0)
		close(c->from);
	if (c->pid && !reap(c, EXIT_WAIT_MS)) {
		kill(c->pid, SIGTERM);
		if (!reap(c, EXIT_WAIT_MS)) {
			kill(c->pid, SIGKILL);
			(void)reap(c, EXIT_WAIT_MS);
		}
	}
	codec_arena_free(c->arena);
	buf_release(&c->in);
	buf_release(&c->answer);
	free(c);
}

static int died(struct cmd *c, size_t answered, size_t n, struct vx_err *err)
{
	if (!reap(c, EXIT_WAIT_MS))
		return vx_err_set(err, -EIO,
			"the embedder closed its output after %zu of %zu answers", answered, n);
	if (WIFSIGNALED(c->status))
		return vx_err_set(err, -EIO,
			"the embedder was killed by signal %d after %zu of %zu answers",
			WTERMSIG(c->status), answered, n);
	return vx_err_set(err, -EIO, "the embedder ended with status %d after %zu of %zu answers",
		WEXITSTATUS(c->status), answered, n);
}

/* One line per text: what would end a line becomes a space. */
static int put_line(struct buf *b, const char *text, size_t n)
{
	size_t at = b->len;
	int rc = buf_append(b, text, n);

	if (rc)
		return rc;
	for (size_t i = at; i < b->len; i++) {
		uint8_t c = b->data[i];
		if (c == '\n' || c == '\r' || c == 0)
			b->data[i] = ' ';
	}
	return buf_put_u8(b, '\n');
}

/* write() whose SIGPIPE does not reach the program we are in. */
static ssize_t quiet_write(int fd, const void *p, size_t n)
{
	sigset_t pipe_set, old, pending;

	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	sigpending(&pending);
	bool was_pending = sigismember(&pending, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	ssize_t done = write(fd, p, n);
	int saved = errno;
	if (done < 0 && saved == EPIPE && !was_pending)
		(void)!sigtimedwait(&pipe_set, NULL, &(struct timespec){0});
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return done;
}

static int take_answer(struct cmd *c, const char *p, size_t len, size_t i, struct embed_out *out,
	struct vx_err *err)
{
	const struct codec_opts opts = {.id_optional = true};
	struct vx_record rec;
	struct vx_err why = VX_ERR_INIT;
	int rc = codec_parse_record(c->arena, p, len, &opts, &rec, &why);

	if (rc)
		return vx_err_set(err, rc == -ENOMEM ? rc : -EIO,
			"the embedder's answer %zu is no vector: %s", i + 1, why.msg);
	return embed_put(out, i, rec.vec, rec.dim, err);
}

/* Takes every complete line of c->answer. */
static int take_answers(
	struct cmd *c, size_t *answered, size_t n, struct embed_out *out, struct vx_err *err)
{
	const char *p = (const char *)c->answer.data, *end = p + c->answer.len, *nl;

	while (p < end && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if (*answered == n)
			return vx_err_set(err, -EIO, "the embedder gave more answers than texts");
		int rc = take_answer(c, p, (size_t)(nl - p), *answered, out, err);
		if (rc)
			return rc;
		++*answered;
		p = nl + 1;
	}
	buf_consume(&c->answer, (size_t)(p - (const char *)c->answer.data));
	if (c->answer.len > ANSWER_MAX)
		return vx_err_set(err, -EIO, "the embedder's answer %zu is longer than %u bytes",
			*answered + 1, ANSWER_MAX);
	return 0;
}

int cmd_texts(struct cmd *c, const char *const *texts, const size_t *lens, size_t n,
	struct embed_out *out, struct vx_err *err)
{
	size_t sent = 0, answered = 0;
	bool write_failed = false;

	/* An answer nobody asked for would shift all that follow by one. */
	struct pollfd early = {.fd = c->from, .events = POLLIN};
	if (c->answer.len || (poll(&early, 1, 0) == 1 && early.revents & POLLIN))
		return vx_err_set(err, -EIO, "the embedder gave more answers than texts");
	c->in.len = 0;
	for (size_t i = 0; i < n; i++) {
		if (put_line(&c->in, texts[i], lens[i]))
			return vx_err_set(err, -ENOMEM, "out of memory");
	}
	while (answered < n) {
		bool more = sent < c->in.len && !write_failed;
		struct pollfd p[2] = {{.fd = c->from, .events = POLLIN},
			{.fd = more ? c->to : -1, .events = POLLOUT}};
		int ready = poll(p, 2, SILENCE_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0)
			return vx_err_set(err, -EIO,
				"the embedder has been silent for %d s after %zu of %zu answers; "
				"does it "
				"flush its output after each line?",
				SILENCE_MS / 1000, answered, n);
		if (p[1].revents) {
			ssize_t done = quiet_write(c->to, c->in.data + sent, c->in.len - sent);
			if (done > 0)
				sent += (size_t)done;
			else if (done < 0 && errno != EAGAIN && errno != EINTR)
				write_failed = true; /* what it said before it died still counts */
		}
		if (p[0].revents) {
			if (buf_reserve(&c->answer, 64u << 10))
				return vx_err_set(err, -ENOMEM, "out of memory");
			ssize_t got = read(c->from, c->answer.data + c->answer.len, 64u << 10);
			if (got == 0)
				return died(c, answered, n, err);
			if (got < 0 && errno != EAGAIN && errno != EINTR)
				return vx_err_set(err, -EIO, "cannot read from the embedder: %s",
					strerror(errno));
			c->answer.len += got > 0 ? (size_t)got : 0;
			int rc = take_answers(c, &answered, n, out, err);
			if (rc)
				return rc;
		}
	}
	return 0;
}
