#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/verbs.hpp"
#include "crypto/secret.hpp"
#include "os/inherited.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <array>
#include <exception>

namespace curvegate::cli {
namespace {

constexpr auto kVerbs = std::to_array<Verb>({
    {"keygen", "--role server|client -o FILE [--passphrase] [--state-dir DIR]",
     "make a key pair; print the public key", keygen},
    {"import", "--role server|client -o FILE [--state-dir DIR]",
     "make a key file of a secret from standard input; print the public key", import_key},
    {"pubkey", "[--format base64|hex|z85] [FILE]", "print the public key of a key file", pubkey},
    {"fingerprint", "[KEY|FILE]", "print the fingerprint of a public key", fingerprint},
    {"peers",
     "list | add NAME KEY [--from CIDR,...] [--valid-until DATE] [--comment TEXT] | remove NAME | "
     "revoke KEY|NAME  [--known-hosts FILE]",
     "show or change known_hosts", peers},
    {"check", "[-c FILE] [-v] [--peer P --service S [--address IP] | --production [--dial]]",
     "check the configuration and the files that it names; explain who may use what", check},
    {"counter", "init [-c FILE]", "make the nonce counters of keys that have none", counter},
    {"probe", "SERVICE [-c FILE]", "try a client section's tunnel, step by step", probe},
    {"connect", "SERVICE [-c FILE]",
     "carry standard input and output through a client section's tunnel, as ssh's ProxyCommand wants it",
     connect},
    {"run", "[-c FILE]", "run the daemon in the foreground", run},
    {"status", "[--json | --watch] [-c FILE | --socket PATH]", "show services, peers, sessions and counters",
     status},
    {"reload", "[-c FILE | --socket PATH]", "have the configuration and known_hosts read again", reload},
    {"revoke", "KEY|NAME [-c FILE | --socket PATH]",
     "end a key's sessions now, and write @revoked to known_hosts", revoke},
    {"drain", "[-c FILE | --socket PATH]", "have the daemon accept no more, and end when its sessions have",
     drain},
    {"rotate",
     "start FILE|--generate | switch | finish | cancel | status [--json] | --compromised  [-c FILE | "
     "--socket PATH]",
     "change the server key without a flag day", rotate},
    {"audit", "verify FILE...", "say whether audit files, in their order, are one unbroken chain", audit},
    {"events", "[-c FILE | --socket PATH]", "show what happens, as it happens, as JSON lines", events},
});

constexpr std::string_view kVersion = CURVEGATE_VERSION;

int help() {
    print("usage: curvegate VERB ...\n");
    for (const Verb& verb : kVerbs) {
        constexpr std::size_t kColumn = 14;
        std::string line = "  " + std::string(verb.name);
        line.resize(kColumn, ' ');
        print(line + std::string(verb.help));
    }
    print("\ncurvegate VERB --help says more; curvegate --version says which version this is.");
    return finish_output();
}

int unknown(const std::string& word) {
    const auto names = text::words_of(kVerbs, &Verb::name);
    return complain(exit_code::kUsage, "unknown verb " + text::quoted(word) +
                                           text::did_you_mean(word, names) + "; curvegate --help lists them");
}

int dispatch(const Arguments& words) {
    if (words.empty()) {
        help();
        return exit_code::kUsage;
    }
    const std::string& name = words.front();
    if (name == "--help" || name == "-h" || name == "help") return help();
    if (name == "--version" || name == "-V") {
        print("curvegate " + std::string(kVersion));
        return finish_output();
    }
    const auto* const verb = std::ranges::find(kVerbs, name, &Verb::name);
    if (verb == kVerbs.end()) return unknown(name);
    if (auto started = crypto::initialise(); !started) {
        return complain(exit_code::kUnavailable, started.error().text());
    }
    return verb->run(*verb, Arguments(words.begin() + 1, words.end()));
}

}  // namespace

}  // namespace curvegate::cli

int main(int argc, char** argv) {
    using namespace curvegate;
    using namespace curvegate::cli;
    if (!curvegate::os::fill_standard_descriptors())
        return complain(exit_code::kUnavailable, "cannot open /dev/null");
    try {
        return dispatch(Arguments(argv + std::min(argc, 1), argv + argc));
    } catch (const std::exception& error) {
        return complain(exit_code::kUnavailable, error.what());
    }
}
