#include "base/json.hpp"
#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/secrets.hpp"
#include "cli/verbs.hpp"
#include "crypto/secret.hpp"
#include "os/connect_unix.hpp"
#include "os/file.hpp"
#include "os/random.hpp"
#include "os/secret_pages.hpp"
#include "vault/control_message.hpp"
#include "vault/counter_store.hpp"
#include "vault/key_file.hpp"
#include "vault/protocol/control.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

namespace curvegate::cli {
namespace {

constexpr std::chrono::seconds kConnectPatience{5};
constexpr time_t kPatience = 30;  // seconds: a sealed key takes the vault a while
constexpr std::size_t kNameDigits = 16;
constexpr std::size_t kLongestKeyText = 1025;

Outcome<> refuse(int code, const std::string& text) {
    return std::unexpected(complain(code, text));
}

std::string key_text(const ByteArray<32>& key) {
    return crypto::encode_key(key, crypto::KeyFormat::base64);
}

// ---- where the vault is ----

/// What the configuration says of the vault; the rest of it may be broken.
struct Where {
    std::string socket;
    std::string passphrase_file;
};

Outcome<Where> where(const Options& options) {
    Where out{options.get("socket"), {}};
    const std::string path = options.has("config") ? options.get("config") : default_config();
    const auto text = os::read_linked(path, kLongestFile);
    if (text) out.passphrase_file = config::find_global(*text, "passphrase-file").value_or("");
    if (!out.socket.empty()) return out;
    if (!text) return std::unexpected(complain(exit_for_reading(path), text.error().detail()));
    out.socket = config::find_global(*text, "vault-control").value_or("");
    if (!out.socket.empty()) return out;
    const auto control = config::find_global(*text, "control");
    if (!control) {
        return std::unexpected(complain(
            exit_code::kConfig, path + " names no vault-control and no control; or say --socket PATH"));
    }
    out.socket = os::folder_of(*control) + "/vault-control.sock";
    return out;
}

/// A connection to the vault's control socket.
class Vault {
  public:
    static Outcome<Vault> connect(const std::string& path) {
        auto fd = os::connect_unix(path, SOCK_SEQPACKET, kConnectPatience);
        if (!fd) return std::unexpected(cannot_reach(path, fd.error()));
        const timeval patience{kPatience, 0};
        ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        const auto uid = os::peer_uid(fd->get());
        if (!uid) return std::unexpected(complain(exit_code::kUnavailable, uid.error().text()));
        return Vault(std::move(*fd), *uid);
    }

    /// A refusal has been told.
    Outcome<vault::ControlReply> ask(const vault::ControlRequest& request,
                                     std::span<const int> descriptors = {}) {
        WipedBuffer message(vault::kLargestControlRequest);
        const Bytes bytes = serialise(request, message.room());
        if (auto sent = vault::send_with_descriptors(fd_.get(), bytes, descriptors); !sent)
            return std::unexpected(complain(exit_code::kUnavailable, sent.error().text()));
        std::vector<Byte> answer(vault::kLargestControlReply);
        const auto got = vault::receive_with_descriptors(fd_.get(), answer, 0);
        if (!got) return std::unexpected(complain(exit_code::kUnavailable, got.error().text()));
        if (!*got || (*got)->size == 0) {
            return std::unexpected(complain(
                exit_code::kUnavailable,
                *got ? "the vault ended the connection (is it of this version, and are you root or its user?)"
                     : "the vault does not answer"));
        }
        auto reply = vault::parse_control_reply(Bytes(answer).first((*got)->size));
        if (!reply) return std::unexpected(complain(exit_code::kUnavailable, reply.error().text()));
        if (!reply->refusal.empty()) return std::unexpected(complain(exit_code::kFailed, reply->refusal));
        return std::move(*reply);
    }
    [[nodiscard]] unsigned uid() const noexcept { return uid_; }

  private:
    static int cannot_reach(const std::string& path, int code) {
        const bool denied = code == EACCES || code == EPERM;
        std::string_view next = "; is the vault running with it?";
        if (denied) next = "; only root and the vault's user may";
        if (code == EAGAIN) next = "; the vault takes no connection: does it hang?";
        return complain(denied ? exit_code::kNoPermission : exit_code::kUnavailable,
                        "cannot reach the vault's control socket at " + path + ": " + std::strerror(code) +
                            std::string(next));
    }
    Vault(os::UniqueFd fd, unsigned uid) : fd_(std::move(fd)), uid_(uid) {}
    os::UniqueFd fd_;
    unsigned uid_;
};

// ---- what is told ----

std::string idle_text(std::uint64_t seconds) {
    return seconds == vault::ControlKey::kNever ? "never" : std::to_string(seconds) + " s ago";
}

void tell_json(const vault::ControlReply& reply) {
    JsonWriter out;
    out.open('{').key("keys").open('[');
    for (const auto& key : reply.keys) {
        out.open('{').key("part").text(name_of(key.part)).key("public_key").text(key_text(key.public_key));
        out.key("slot").number(static_cast<unsigned>(key.slot)).key("clients").number(key.clients);
        out.key("idle_seconds");
        if (key.idle == vault::ControlKey::kNever) {
            out.null();
        } else {
            out.number(key.idle);
        }
        out.key("path").text(key.path).close('}');
    }
    print(out.close(']').close('}').take());
}

void tell_text(const vault::ControlReply& reply) {
    for (const auto& key : reply.keys) {
        const std::string part(name_of(key.part));
        print(part + std::string(10 - part.size(), ' ') + key_text(key.public_key) + "  handshakes: " +
              std::to_string(key.clients) + ", last: " + idle_text(key.idle) + "  " + key.path);
    }
}

// ---- start ----

/// Gives a file that root made to the vault's user, who must find it at its next start.
Outcome<> give_to(unsigned uid, int fd, const std::string& path) {
    struct stat info{};
    if (::fstat(fd, &info) != 0 || info.st_uid == uid) return {};
    if (::fchown(fd, uid, static_cast<gid_t>(-1)) == 0) return {};
    return refuse(exit_code::kNoPermission,
                  "chown " + path + " to uid " + std::to_string(uid) + ": " + std::strerror(errno));
}

Outcome<os::UniqueFd> open_for(unsigned uid, const std::string& path, int flags) {
    os::UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600));
    if (!fd) return std::unexpected(complain(exit_for_reading(path), path + ": " + std::strerror(errno)));
    if (auto given = give_to(uid, fd.get(), path); !given) return std::unexpected(given.error());
    return fd;
}

/// Makes a key file beside `beside`, named after its public key.
Outcome<std::string> generate(const std::string& beside, unsigned uid) {
    auto pool = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 8);
    if (!pool) return std::unexpected(complain(exit_code::kUnavailable, pool.error().text()));
    os::SystemRandom random;
    auto secret = crypto::LongTermSecret::random(**pool, random);
    if (!secret) return std::unexpected(complain(exit_code::kUnavailable, secret.error().text()));
    const auto public_key = crypto::public_key_of(*secret);
    if (!public_key) return std::unexpected(complain(exit_code::kUnavailable, public_key.error().text()));
    const auto digits =
        crypto::encode_key(public_key->bytes(), crypto::KeyFormat::hex).substr(0, kNameDigits);
    std::string path = os::folder_of(beside) + "/server." + digits + ".key";
    const vault::LongTermKey key{vault::KeyRole::server, *public_key, std::move(*secret)};
    if (auto stored = vault::store_key(path, key, random, std::nullopt); !stored)
        return std::unexpected(complain(exit_for_writing(path), stored.error().text()));
    if (auto fd = open_for(uid, path, O_RDONLY); !fd) return std::unexpected(fd.error());
    return path;
}

Outcome<std::string> whole_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> whole(::realpath(path.c_str(), nullptr), &std::free);
    if (!whole) return std::unexpected(complain(exit_for_reading(path), path + ": " + std::strerror(errno)));
    return std::string(whole.get());
}

/// Role and public key, as the file says.
Outcome<vault::KeyFileHeader> header_of(int fd, const std::string& path) {
    WipedBuffer text(kLongestKeyText);
    if (auto read = read_secret(fd, path, text); !read)
        return std::unexpected(complain(exit_code::kBadData, read.error().detail()));
    ::lseek(fd, 0, SEEK_SET);
    auto header = vault::parse_key_header(text.text());
    if (!header) return std::unexpected(complain(exit_code::kBadData, path + ": " + header.error().text()));
    return *header;
}

/// From the configured file, else from the terminal.
Outcome<> passphrase_for(const std::string& path, const std::string& file, WipedBuffer& into) {
    if (file.empty()) {
        if (HiddenTerminal().ask("Passphrase for " + path + ": ", into)) return {};
        return refuse(exit_code::kNoInput, path + " is sealed, and no passphrase was given on the terminal");
    }
    const auto fd = os::open_checked(file, os::Privacy::secret);
    if (!fd) return refuse(exit_for_reading(file), fd.error().detail());
    if (auto read = read_secret(fd->get(), file, into); !read)
        return refuse(exit_code::kBadData, read.error().detail());
    into.set_used(std::min(into.text().find('\n'), into.content().size()));
    return {};
}

/// The state file, opened for writing: what shows the vault that we may rotate.
Outcome<os::UniqueFd> proof(const Vault& vault, const std::string& path) {
    os::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    if (!fd) {
        return std::unexpected(complain(exit_for_reading(path),
                                        path + ": " + std::strerror(errno) +
                                            "; to rotate you must be able to write this file of the vault's: "
                                            "run this as root or as the vault's user, where its files are"));
    }
    // The vault named it. Root hands the vault nothing that is not the vault's already.
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != vault.uid())
        return std::unexpected(complain(exit_code::kNoPermission,
                                        path + " is not a file of the vault's user; nothing was done"));
    return fd;
}

/// A step that needs nothing but the right to it.
Outcome<vault::ControlReply> step(Vault& vault, vault::ControlVerb verb) {
    const auto before = vault.ask({vault::ControlVerb::status, {}, {}});
    if (!before || verb == vault::ControlVerb::status) return before;
    const auto right = proof(vault, before->state_file);
    if (!right) return std::unexpected(right.error());
    const std::array<int, 1> descriptors = {right->get()};
    return vault.ask({verb, {}, {}}, descriptors);
}

Outcome<vault::ControlReply> start(Vault& vault, const Where& at, const std::string& file) {
    const auto before = vault.ask({vault::ControlVerb::status, {}, {}});
    if (!before) return std::unexpected(before.error());
    const auto right = proof(vault, before->state_file);
    if (!right) return std::unexpected(right.error());
    if (before->keys.size() != 1) {  // before a key is made for nothing
        return std::unexpected(complain(
            exit_code::kFailed, "a rotation is under way: `curvegate rotate status` tells how far it is"));
    }
    const auto path = file.empty() ? generate(before->keys.front().path, vault.uid()) : whole_path(file);
    if (!path) return std::unexpected(path.error());
    // Not given to the vault's user: a file that somebody chose stays whose it is, and the vault tells.
    const os::UniqueFd key(::open(path->c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!key) return std::unexpected(complain(exit_for_reading(*path), *path + ": " + std::strerror(errno)));
    const auto header = header_of(key.get(), *path);
    if (!header) return std::unexpected(header.error());

    const std::string folder = before->state_dir.empty() ? os::folder_of(*path) : before->state_dir;
    const std::string counter_path = vault::counter_path(folder, header->public_key);
    os::SystemRandom random;
    if (auto made = vault::init_counter(counter_path, header->public_key, random); !made)
        return std::unexpected(complain(exit_for_writing(counter_path), made.error().text()));
    const auto counter = open_for(vault.uid(), counter_path, O_RDWR);
    if (!counter) return std::unexpected(counter.error());
    const auto lock = open_for(vault.uid(), counter_path + ".lock", O_RDWR | O_CREAT);
    if (!lock) return std::unexpected(lock.error());

    WipedBuffer passphrase(vault::kLongestControlPassphrase);
    if (header->sealed) {
        if (auto asked = passphrase_for(*path, at.passphrase_file, passphrase); !asked)
            return std::unexpected(asked.error());
    }
    const std::array<int, vault::kMostControlDescriptors> descriptors = {right->get(), key.get(),
                                                                         counter->get(), lock->get()};
    return vault.ask({vault::ControlVerb::start, *path, passphrase.content()}, descriptors);
}

constexpr std::array<std::pair<std::string_view, vault::ControlVerb>, 4> kSteps = {
    {{"status", vault::ControlVerb::status},
     {"switch", vault::ControlVerb::switch_over},
     {"finish", vault::ControlVerb::finish},
     {"cancel", vault::ControlVerb::cancel}}};

/// What the command line asks for.
struct Order {
    vault::ControlVerb verb;
    std::string file;  ///< start: the new key; empty: make one
};

Outcome<Order> order_of(const Options& options) {
    const auto wrong = [&](const std::string& text) { return std::unexpected(options.usage_error(text)); };
    const auto& words = options.operands();
    const std::string step = words.empty() ? "" : words.front();
    if (options.has("compromised")) {
        if (!words.empty() || options.has("generate")) return wrong("--compromised stands alone");
        return Order{vault::ControlVerb::compromised, {}};
    }
    if (step == "start") {
        const bool generate = options.has("generate");
        if (generate == (words.size() == 2)) return wrong("start wants a key file, or --generate");
        return Order{vault::ControlVerb::start, generate ? "" : words[1]};
    }
    const auto* const found = std::ranges::find(kSteps, step, &decltype(kSteps)::value_type::first);
    if (found == kSteps.end()) return wrong("want start, switch, finish, cancel, status or --compromised");
    if (words.size() > 1 || options.has("generate")) return wrong(step + " takes nothing more");
    return Order{found->second, {}};
}

}  // namespace

int rotate(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.flag("generate", "start: make the new key, beside the current one's file")
        .flag("compromised", "drop the old key at once, with all sessions that began under it")
        .flag("json", "tell the keys as JSON")
        .value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .value("socket", "PATH", "the vault's control socket (default: what the configuration says)")
        .operands(0, 2);
    if (const auto end = options.parse(arguments)) return *end;
    const auto order = order_of(options);
    if (!order) return order.error();
    const auto at = where(options);
    if (!at) return at.error();
    auto vault = Vault::connect(at->socket);
    if (!vault) return vault.error();
    const auto reply = order->verb == vault::ControlVerb::start ? start(*vault, *at, order->file)
                                                                : step(*vault, order->verb);
    if (!reply) return reply.error();
    if (options.has("json")) {
        tell_json(*reply);
    } else {
        tell_text(*reply);
    }
    return finish_output();
}

}  // namespace curvegate::cli
