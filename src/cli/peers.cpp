#include "cli/exit.hpp"
#include "cli/known_hosts_file.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "crypto/keys.hpp"
#include "registry/edit.hpp"
#include "registry/registry.hpp"
#include "registry/text.hpp"

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

Outcome<crypto::PublicKey> parse_key(const std::string& text) {
    const auto key = crypto::PublicKey::from_text(text);
    if (!key) return std::unexpected(complain(exit_code::kBadData, "KEY: " + key.error().text()));
    return *key;
}

/// The entry that `peers add` is asked for. It goes through the parser of the file, so that what is written
/// reads back as what was meant.
Outcome<Entry> wanted_entry(const Options& options) {
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
    return finish_output();
}

int complain_no_such_name(const KnownHostsFile& file, const std::string& name) {
    std::vector<std::string_view> names;
    for (const Entry& entry : file.entries())
        names.insert(names.end(), entry.names.begin(), entry.names.end());
    const std::string guess = registry::did_you_mean(name, names);
    return complain(exit_code::kBadData, registry::quoted(name) + " is not in " + file.path() + guess);
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

int revoke(const Options& options, const std::string& path) {
    const std::string& word = options.operands()[1];
    const auto file = KnownHostsFile::open(path);
    if (!file) return file.error();
    const auto keys = keys_to_revoke(word, file->entries());
    if (keys.empty()) return complain_no_such_name(*file, word);
    const registry::Registry registry(file->entries());
    for (const auto& key : keys) {
        const std::string_view name = registry.name_of(key);
        print((registry.is_revoked(key) ? "revoked already: " : "revoked: ") +
              std::string(name.empty() ? "revoked" : name) + " " + crypto::fingerprint(key));
    }
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const std::string text = registry::append_revoked(file->text(), file->entries(), keys, now);
    if (text != file->text()) {
        if (const int code = file->replace(text); code != 0) return code;
    }
    return finish_output();
}

int list(const Options&, const std::string& path) {
    const auto entries = read_known_hosts(path);
    if (!entries) return entries.error();
    for (const Entry& entry : *entries) print(registry::format(entry));
    return finish_output();
}

struct Action {
    std::string_view name;
    std::size_t words;  ///< with the name
    bool takes_entry_options;
    int (*run)(const Options& options, const std::string& path);
};
constexpr auto kActions = std::to_array<Action>({
    {"list", 1, false, list},
    {"add", 3, true, add},
    {"remove", 2, false, remove},
    {"revoke", 2, false, revoke},
});

int unknown_action(const Options& options) {
    const auto names = registry::words_of(kActions, &Action::name);
    const std::string& word = options.operands().front();
    return options.usage_error("unknown " + registry::quoted(word) + registry::did_you_mean(word, names));
}

}  // namespace

int peers(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("known-hosts", "FILE", "the file (default: that of the usual configuration)")
        .value("from", "CIDR,...", "add: addresses that the key may come from")
        .value("valid-until", "DATE", "add: the last day (YYYY-MM-DD, UTC) or a moment (RFC 3339)")
        .value("comment", "TEXT", "add: anything")
        .operands(1, 3);
    if (const auto end = options.parse(arguments)) return *end;
    const auto& words = options.operands();
    const auto* const action = std::ranges::find(kActions, words.front(), &Action::name);
    if (action == kActions.end()) return unknown_action(options);
    if (words.size() != action->words) {
        return options.usage_error(words.size() < action->words ? "something is missing" : "too many words");
    }
    const bool entry_options = options.has("from") || options.has("valid-until") || options.has("comment");
    if (entry_options && !action->takes_entry_options) {
        return options.usage_error("--from, --valid-until and --comment go with add");
    }
    return action->run(options,
                       options.has("known-hosts") ? options.get("known-hosts") : default_known_hosts());
}

}  // namespace curvegate::cli
