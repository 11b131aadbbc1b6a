# mk/install.mk: what goes where.
#
# mount(8) looks for mount.TYPE in /sbin alone, so the helper goes there when vecfs is installed for
# the whole system; any other PREFIX keeps it in PREFIX/sbin, and so does an empty MOUNTHELPERDIR.
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
# Programs that other programs start; vec-bench looks in ../libexec/vecfs.
LIBEXECDIR ?= $(PREFIX)/libexec/vecfs
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/vecfs
UNITDIR ?= $(PREFIX)/lib/systemd/system
MOUNTHELPERDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/sbin,$(SBINDIR))
helper_dir = $(or $(MOUNTHELPERDIR),$(SBINDIR))
INSTALL ?= install

MAN_PAGES := $(sort $(wildcard man/*.[1-8]))
DOCS := README.md ARCHITECTURE.md LICENSE $(sort $(wildcard docs/*.md))

.PHONY: install uninstall
install: all ## PREFIX=/usr/local DESTDIR=
	$(Q)$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(helper_dir) \
		$(DESTDIR)$(DOCDIR) $(DESTDIR)$(UNITDIR)
	$(Q)for p in $(BENCH_HELPERS); do $(INSTALL) -d $(DESTDIR)$(LIBEXECDIR) && \
		$(INSTALL) -m 755 $(BENCH_LIBEXEC)/$$p $(DESTDIR)$(LIBEXECDIR)/$$p || exit 1; done
	$(Q)$(INSTALL) -m 755 $(BIN)/vecfsd $(DESTDIR)$(SBINDIR)/vecfsd
	$(Q)$(INSTALL) -m 755 cli/mount.vecfs $(DESTDIR)$(helper_dir)/mount.vecfs
	$(Q)for p in $(CLI_PROGS) $(BENCH_PROGS); do $(INSTALL) -m 755 $(BIN)/$$p $(DESTDIR)$(BINDIR)/$$p || exit 1; done
	$(Q)for m in $(MAN_PAGES); do d=$(DESTDIR)$(MANDIR)/man$${m##*.}; \
		$(INSTALL) -d $$d && $(INSTALL) -m 644 $$m $$d/ || exit 1; done
	$(Q)$(INSTALL) -m 644 $(DOCS) $(DESTDIR)$(DOCDIR)/
	$(Q)sed 's|@SBINDIR@|$(SBINDIR)|' contrib/vecfs.service >$(DESTDIR)$(UNITDIR)/vecfs.service
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))

uninstall: ## what 'make install' with the same variables put there
	rm -f $(DESTDIR)$(SBINDIR)/vecfsd $(DESTDIR)$(helper_dir)/mount.vecfs \
		$(patsubst %,$(DESTDIR)$(BINDIR)/%,$(CLI_PROGS) $(BENCH_PROGS)) $(DESTDIR)$(UNITDIR)/vecfs.service \
		$(foreach m,$(MAN_PAGES),$(DESTDIR)$(MANDIR)/man$(lastword $(subst ., ,$(m)))/$(notdir $(m)))
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(LIBEXECDIR)
