#include "cli/peers.hpp"

#include "cli/exit.hpp"
#include "cli/known_hosts_file.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "crypto/key_shape.hpp"
#include "crypto/keys.hpp"
#include "registry/dates.hpp"
#include "registry/edit.hpp"
#include "registry/registry.hpp"
#include "text/reading.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <optional>

namespace curvegate::cli {
namespace {

using registry::Entry;

std::string place_of(const KnownHostsFile& file, const Entry& entry) {
    return file.path() + ":" + std::to_string(entry.line);
}

WallTime now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

/// What to say of a KEY that is none. People give the file that keygen made, or all that stands in it.
std::string why_no_key(const std::string& word, const Error& error) {
    constexpr std::string_view kKeyFileStart = "curvegate-secret-key";
    if (word.starts_with(kKeyFileStart))
        return "KEY is a whole key file, with its secret: give the public key, as curvegate pubkey FILE "
               "prints it";
    if (!crypto::looks_like_key(word) && ::access(word.c_str(), F_OK) == 0) {
        return "KEY: " + word + " is a file: give the public key itself, as curvegate pubkey " + word +
               " prints it";
    }
    return "KEY: " + error.text();
}

Outcome<crypto::PublicKey> parse_key(const std::string& text) {
    const auto key = crypto::PublicKey::from_text(text);
    if (!key) return std::unexpected(complain(exit_code::kBadData, why_no_key(text, key.error())));
    return *key;
}

/// The name with '-' for each character that a name may not have. Returns nullopt if that is no name either.
std::optional<std::string> usable_name(std::string name) {
    for (char& c : name) {
        if (!registry::is_valid_name(std::string_view(&c, 1))) c = '-';
    }
    if (!registry::is_valid_name(name) || name.starts_with('-')) return std::nullopt;
    return name;
}

/// What is wrong with a word of `peers add`. Returns nullopt if they make a line.
std::optional<std::string> why_no_entry(const Options& options) {
    text::Parts names(options.operands()[1], ',');
    while (const auto name = names.next()) {
        if (crypto::looks_like_key(*name)) return "the name stands before the key: peers add NAME KEY";
        if (registry::is_valid_name(*name)) continue;
        const auto usable = usable_name(std::string(*name));
        return "NAME: " + text::quoted(*name) +
               " is not a name: letters, digits, '.', '-', '_', ':', at most 255" +
               (usable ? " (such as " + *usable + ")" : "");
    }
    for (const char* option : {"from", "valid-until"}) {
        if (options.get(option).find_first_of(" \t") != std::string::npos)
            return "--" + std::string(option) + ": " + text::quoted(options.get(option)) +
                   " has blanks, which part the words of a line: write it without";
    }
    for (const char* option : {"from", "valid-until", "comment"}) {
        if (const auto why = text::why_not_text(options.get(option)))
            return "--" + std::string(option) + ": " + *why;
    }
    return std::nullopt;
}

/// The entry that `peers add` is asked for. It goes through the parser of the file, so that what is written
/// reads back as what was meant.
Outcome<Entry> wanted_entry(const Options& options) {
    if (const auto why = why_no_entry(options))
        return std::unexpected(complain(exit_code::kBadData, "peers add: " + *why));
    const auto key = parse_key(options.operands()[2]);
    if (!key) return std::unexpected(key.error());
    std::string line;
    if (options.has("from")) line += "from=" + options.get("from") + " ";
    if (options.has("valid-until")) line += "valid-until=" + options.get("valid-until") + " ";
    line += options.operands()[1] + " curve25519 " + key->text() + " " + options.get("comment");
    auto entries = registry::parse_known_hosts(line, "peers add");
    if (entries && entries->size() == 1) {
        Entry& entry = entries->front();
        if (entry.key == *key && !entry.revoked) return std::move(entry);
    }
    const std::string why = entries ? "want NAME[,NAME...]" : entries.error().front().text;
    return std::unexpected(complain(exit_code::kBadData, "peers add: " + why));
}

bool says_the_same(const Entry& a, const Entry& b) {
    const auto holds = [&](const std::string& name) {
        return std::ranges::find(a.names, name) != a.names.end();
    };
    return a.key == b.key && a.revoked == b.revoked && a.from == b.from && a.valid_until == b.valid_until &&
           std::ranges::all_of(b.names, holds);
}

/// Makes the usual folder if the file is to stand there: the first peer may come before anything else.
void make_usual_folder(const std::string& path) {
    const std::string folder = default_folder();
    if (os::folder_of(path) != folder) return;
    std::error_code ignored;  // the file that cannot be made in it is told
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), ignored);
    // The daemon, which is not root, reads in root's; a user's own is nobody else's business.
    static_cast<void>(::mkdir(folder.c_str(), ::geteuid() == 0 ? 0755 : 0700));
}

/// What is allowed, but seldom meant.
void warn_of(const Entry& entry, const KnownHostsFile& file) {
    if (entry.valid_until && *entry.valid_until <= now()) {
        complain(exit_code::kOk, "warning: valid-until=" + registry::format_valid_until(*entry.valid_until) +
                                     " is over: this line lets nobody in");
    }
    for (const Entry& present : file.entries()) {
        if (present.key != entry.key || present.revoked) continue;
        const auto other = std::ranges::find_if(present.names, [&](const std::string& name) {
            return std::ranges::find(entry.names, name) == entry.names.end();
        });
        if (other == present.names.end()) continue;
        complain(exit_code::kOk, "warning: the key stands under the name " + *other + " too, in " +
                                     place_of(file, present) +
                                     ": who may use one may use both, and revoking one revokes both");
    }
}

int add(const Options& options, const std::string& path) {
    const auto entry = wanted_entry(options);
    if (!entry) return entry.error();
    make_usual_folder(path);
    const auto file = KnownHostsFile::open(path);
    if (!file) return file.error();
    for (const Entry& present : file->entries()) {
        if (present.revoked && present.key == entry->key) {
            return complain(exit_code::kBadData, "the key is revoked in " + place_of(*file, present) +
                                                     ", and that beats every other line: make a new key");
        }
    }
    for (const Entry& present : file->entries()) {
        if (!says_the_same(present, *entry)) continue;
        print(place_of(*file, present) + " says so already");
        return finish_output();
    }
    if (const int code = file->replace(registry::append_entry(file->text(), *entry)); code != 0) return code;
    print("added to " + path + ": " + options.operands()[1] + " " + crypto::fingerprint(entry->key));
    warn_of(*entry, *file);
    return finish_output();
}

int complain_no_such_name(const KnownHostsFile& file, const std::string& name) {
    std::vector<std::string_view> names;
    for (const Entry& entry : file.entries())
        names.insert(names.end(), entry.names.begin(), entry.names.end());
    const std::string guess = text::did_you_mean(name, names);
    return complain(exit_code::kBadData, text::quoted(name) + " is not in " + file.path() + guess);
}

int remove(const Options& options, const std::string& path) {
    const std::string& name = options.operands()[1];
    const auto file = KnownHostsFile::open(path);
    if (!file) return file.error();
    const auto removal = registry::remove_name(file->text(), file->entries(), name);
    const std::string stays = std::to_string(removal.revoked_lines) + " @revoked line(s) with the name stay";
    if (removal.lines == 0) {
        if (removal.revoked_lines == 0) return complain_no_such_name(*file, name);
        return complain(exit_code::kBadData, "nothing to remove: " + stays);
    }
    if (const int code = file->replace(removal.text); code != 0) return code;
    print("removed " + name + " from " + std::to_string(removal.lines) + " line(s) of " + path +
          (removal.revoked_lines != 0 ? "; " + stays : ""));
    return finish_output();
}

/// The keys that KEY or NAME stands for, each once.
std::vector<crypto::PublicKey> keys_to_revoke(const std::string& word, const std::vector<Entry>& present) {
    if (const auto key = crypto::PublicKey::from_text(word)) return {*key};
    std::vector<crypto::PublicKey> out;
    for (const Entry& entry : present) {
        const bool named = std::ranges::find(entry.names, word) != entry.names.end();
        if (named && std::ranges::find(out, entry.key) == out.end()) out.push_back(entry.key);
    }
    return out;
}

int complain_no_such_peer(const KnownHostsFile& file, const std::string& word) {
    const bool is_file = ::access(word.c_str(), F_OK) == 0;
    if (registry::is_valid_name(word) && !crypto::looks_like_key(word) && !is_file)
        return complain_no_such_name(file, word);
    const auto key = parse_key(word);
    return key ? complain_no_such_name(file, word) : key.error();
}

int revoke(const Options& options, const std::string& path) {
    return revoke_in_file(options.operands()[1], path);
}

int list(const Options&, const std::string& path) {
    const auto entries = read_known_hosts(path);
    if (!entries) return entries.error();
    for (const Entry& entry : *entries) print(registry::format(entry));
    return finish_output();
}

struct Action {
    std::string_view name;
    std::string_view operands;
    std::size_t words;  ///< with the name
    bool takes_entry_options;
    int (*run)(const Options& options, const std::string& path);
};
constexpr auto kActions = std::to_array<Action>({
    {"list", "no words", 1, false, list},
    {"add", "NAME KEY", 3, true, add},
    {"remove", "NAME", 2, false, remove},
    {"revoke", "KEY or NAME", 2, false, revoke},
});

int unknown_action(const Options& options) {
    const auto names = text::words_of(kActions, &Action::name);
    const std::string& word = options.operands().front();
    return options.usage_error("unknown " + text::quoted(word) + text::did_you_mean(word, names));
}

}  // namespace

int revoke_in_file(const std::string& word, const std::string& path) {
    const auto file = KnownHostsFile::open(path);
    if (!file) return file.error();
    const auto keys = keys_to_revoke(word, file->entries());
    if (keys.empty()) return complain_no_such_peer(*file, word);
    const std::string text = registry::append_revoked(file->text(), file->entries(), keys, now());
    if (text != file->text()) {
        if (const int code = file->replace(text); code != 0) return code;
    }
    const registry::Registry registry(file->entries());
    for (const auto& key : keys) {
        const std::string_view name = registry.name_of(key);
        print((registry.is_revoked(key) ? "revoked already: " : "revoked: ") +
              std::string(name.empty() ? "revoked" : name) + " " + crypto::fingerprint(key));
    }
    return finish_output();
}

int peers(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("known-hosts", "FILE", "the file (default: that of the usual configuration)")
        .value("from", "CIDR,...", "add: addresses that the key may come from")
        .value("valid-until", "DATE", "add: the last day (YYYY-MM-DD, UTC) or a moment (RFC 3339)")
        .value("comment", "TEXT", "add: anything")
        .operands(0, 3);
    if (const auto end = options.parse(arguments)) return *end;
    const auto& words = options.operands();
    if (words.empty()) return options.usage_error("say what to do: list, add, remove or revoke");
    const auto* const action = std::ranges::find(kActions, words.front(), &Action::name);
    if (action == kActions.end()) return unknown_action(options);
    if (words.size() != action->words) {
        return options.usage_error(std::string(action->name) + " takes " + std::string(action->operands) +
                                   ", and got " + std::to_string(words.size() - 1));
    }
    const bool entry_options = options.has("from") || options.has("valid-until") || options.has("comment");
    if (entry_options && !action->takes_entry_options) {
        return options.usage_error("--from, --valid-until and --comment go with add");
    }
    return action->run(options,
                       options.has("known-hosts") ? options.get("known-hosts") : default_known_hosts());
}

}  // namespace curvegate::cli
