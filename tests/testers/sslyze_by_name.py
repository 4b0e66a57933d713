"""sslyze, whose every connection names the site: a gate has no certificate for those that name none, on purpose, and sslyze counts the
one connection that it makes so as a scan that failed."""

from sslyze.plugins.certificate_info import implementation

look = implementation.get_certificate_chain
implementation.get_certificate_chain = lambda server, authority, version, suites, _named: look(server, authority, version, suites, True)

from sslyze.__main__ import main  # noqa: E402

main()
