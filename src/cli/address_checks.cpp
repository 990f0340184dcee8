#include "cli/address_checks.hpp"

#include "io/host.hpp"
#include "io/listen.hpp"

namespace curvegate::cli {
namespace {

std::string no_interface(const config::Address& address) {
    return address.text() + ": this machine has no network interface of that name (ip link lists them)";
}

}  // namespace

AddressChecks check_addresses(const config::Parsed& parsed) {
    AddressChecks out;
    for (const config::Service& service : parsed.config.services) {
        const auto note = [&](Problems& where, std::string_view key, const std::string& text) {
            where.push_back(
                {parsed.config.file, parsed.line_of(service.name, key), std::string(key) + ": " + text});
        };
        const config::Address& accept = service.accept;
        if (const auto address = io::literal_address(accept.host); address && !*address) {
            note(out.problems, "accept", no_interface(accept));
        } else if (address && !io::is_here(**address)) {
            note(out.warnings, "accept",
                 "no interface of this machine has " + accept.host +
                     " now: the daemon listens on it all the same, and serves it as soon as one has");
        }
        for (const config::Address& target : service.connect) {
            if (const auto address = io::literal_address(target.host); address && !*address)
                note(out.warnings, "connect", no_interface(target));
        }
    }
    return out;
}

}  // namespace curvegate::cli
