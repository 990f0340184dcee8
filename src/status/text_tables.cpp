#include "status/text_parts.hpp"
#include "status/units.hpp"

#include <algorithm>
#include <span>
#include <tuple>
#include <utility>

namespace curvegate::status::parts {
namespace {

using Cells = std::vector<std::string>;
using Columns = std::vector<Column>;
using RatesByName = std::map<std::string, Rate, std::less<>>;

constexpr std::size_t kBar = 8;
constexpr std::uint64_t kHuge = ~std::uint64_t{0};
constexpr std::string_view kAnyKey = "(any key)";

std::string_view shown_name(const Peer& peer) {
    return peer.name.empty() ? kAnyKey : std::string_view(peer.name);
}

/// `longest`: cells of the longest name. Names get from `least` to `most` cells, if they need them.
struct NameWidths {
    std::size_t longest;
    std::size_t least;
    std::size_t most;
};
Column name_column(std::string_view title, const NameWidths& widths) {
    return {title, Align::left, std::min(widths.longest, widths.least), std::min(widths.longest, widths.most),
            0};
}
Column number_column(std::string_view title, std::size_t width, unsigned rank) {
    return {title, Align::right, width, width, rank};
}

Line line_of(const View& view, const Columns& columns, const Cells& texts, Kind kind = Kind::ordinary) {
    const auto widths = column_widths(columns, view.width);
    std::string out;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (widths[i] == 0) continue;
        if (i != 0) out += ' ';
        out += fitted(texts[i], widths[i], columns[i].align, view.glyphs);
    }
    return {std::move(out), kind};
}

Section begin(const View& view, const Columns& columns) {
    Cells titles;
    for (const auto& column : columns) titles.emplace_back(column.title);
    return {.title = line_of(view, columns, titles, Kind::title), .rows = {}};
}

// ---- services and peers: the same columns, so that they stand below each other ----

struct OwnTitles {
    std::string_view name;
    std::string_view count;   ///< since the start
    std::string_view last;    ///< the fifth column
    std::string_view detail;  ///< where the screen is wide
};

Columns flow_columns(const View& view, const OwnTitles& own) {
    const bool live = view.rates != nullptr;
    const auto longest = std::max(view.service_names, view.peer_names);
    Columns out = {name_column(own.name, {longest, 16, 32}),
                   {"STATE", Align::left, 8, 8, 3},
                   number_column("SESSIONS", 8, 2),
                   number_column(own.count, 10, 5),
                   number_column(own.last, 7, 6),
                   number_column(live ? "IN/S" : "IN", 8, 1),
                   number_column(live ? "OUT/S" : "OUT", 8, 1),
                   {"", Align::left, kBar, kBar, 4}};
    if (live) out.push_back(number_column("HANDSH/S", 8, 7));
    out.push_back({own.detail, Align::left, 30, 64, 8});
    if (live) {
        out.push_back(number_column("IN", 8, 9));
        out.push_back(number_column("OUT", 8, 9));
    }
    return out;
}

/// What flows through a service or a peer: a second if rates are known, else in all.
struct Flow {
    Traffic sum;
    const Rate* rate;
    [[nodiscard]] double size() const {
        if (rate != nullptr) return rate->bytes_in + rate->bytes_out;
        return static_cast<double>(sum.bytes_in) + static_cast<double>(sum.bytes_out);
    }
};

template <class Item>
Flow flow_of(const Item& item, const RatesByName* rates) {
    static constexpr Rate kStill;
    if (rates == nullptr) return {item.traffic, nullptr};
    const auto found = rates->find(item.name);
    return {item.traffic, found == rates->end() ? &kStill : &found->second};
}

template <class Items>
double greatest_of(const Items& items, const RatesByName* rates) {
    double greatest = 0;
    for (const auto& item : items) greatest = std::max(greatest, flow_of(item, rates).size());
    return greatest;
}

/// The first five columns' cells, with those of flow_columns() behind them.
Cells flow_cells(Cells own, const Flow& flow, std::string bar_text, std::string detail) {
    const auto in = bytes_text(flow.sum.bytes_in);
    const auto out = bytes_text(flow.sum.bytes_out);
    const bool live = flow.rate != nullptr;
    own.push_back(live ? bytes_text(whole(flow.rate->bytes_in)) : in);
    own.push_back(live ? bytes_text(whole(flow.rate->bytes_out)) : out);
    own.push_back(std::move(bar_text));
    if (live) own.push_back(count_text(whole(flow.rate->handshakes + 0.5)));
    own.push_back(std::move(detail));
    if (live) {
        own.push_back(in);
        own.push_back(out);
    }
    return own;
}

std::string state_of(const View& view, const Service& service) {
    if (view.snapshot.draining) return "draining";
    return service.sessions != 0 ? "active" : "idle";
}
std::string state_of(const Peer& peer) {
    if (peer.sessions != 0) return "up";
    return peer.last_handshake ? "away" : "never";
}

/// Where a service leads: several targets with what is known against them.
std::string connect_of(const Service& service) {
    if (service.targets.size() < 2) return service.connect;
    std::string out;
    for (const auto& target : service.targets)
        out += (out.empty() ? "" : ", ") + target.address + (target.up ? "" : " (down)");
    return out;
}

Section services(const View& view) {
    const auto columns = flow_columns(view, {"SERVICE", "ACCEPTED", "REFUSED", "WHERE"});
    const auto* rates = view.rates == nullptr ? nullptr : &view.rates->services;
    const double greatest = greatest_of(view.snapshot.services, rates);
    const std::string arrow = view.glyphs == Glyphs::unicode ? " → " : " > ";
    Section out = begin(view, columns);
    for (const auto& service : view.snapshot.services) {
        const auto flow = flow_of(service, rates);
        const std::string where = plain(service.side + " " + service.accept, view.glyphs) + arrow +
                                  plain(connect_of(service), view.glyphs);
        out.rows.push_back(line_of(view, columns,
                                   flow_cells({plain(service.name, view.glyphs), state_of(view, service),
                                               count_text(service.sessions), count_text(service.accepted),
                                               count_text(service.refused)},
                                              flow, bar(flow.size(), greatest, kBar, view.glyphs), where)));
    }
    return out;
}

Section peers(const View& view) {
    const auto columns = flow_columns(view, {"PEER", "HANDSHAKES", "LAST", "KEY"});
    const auto* rates = view.rates == nullptr ? nullptr : &view.rates->peers;
    const double greatest = greatest_of(view.snapshot.peers, rates);
    Section out = begin(view, columns);
    const auto add = [&](const Peer& peer) {
        const auto flow = flow_of(peer, rates);
        const auto last = peer.last_handshake ? age_text(between(*peer.last_handshake, view.snapshot.now))
                                              : std::string("-");
        out.rows.push_back(line_of(
            view, columns,
            flow_cells({plain(shown_name(peer), view.glyphs), state_of(peer), count_text(peer.sessions),
                        count_text(peer.handshakes), last},
                       flow, bar(flow.size(), greatest, kBar, view.glyphs), plain(peer.key, view.glyphs))));
    };
    // Where not all fit, those that are here come first, then those that were.
    std::vector<const Peer*> sorted;
    sorted.reserve(view.snapshot.peers.size());
    for (const auto& peer : view.snapshot.peers) sorted.push_back(&peer);
    std::ranges::sort(sorted, {}, [](const Peer* peer) {
        return std::tuple(peer->sessions == 0, !peer->last_handshake.has_value(), peer);
    });
    const auto shown = std::min(sorted.size(), view.height);
    out.left_out = sorted.size() - shown;
    for (const auto* peer : std::span(sorted).first(shown)) add(*peer);
    return out;
}

// ---- refusals, connections ----

Section refusals(const View& view) {
    const Columns columns = {number_column("REFUSED", 7, 0), {"BECAUSE", Align::left, 1, 120, 1}};
    std::vector<std::pair<std::string_view, std::uint64_t>> sorted(view.snapshot.refusals.begin(),
                                                                   view.snapshot.refusals.end());
    std::ranges::sort(sorted, {}, [](const auto& refusal) {
        return std::pair(kHuge - refusal.second, refusal.first);  // the most frequent first
    });
    Section out = begin(view, columns);
    out.few = 2;
    for (const auto& [reason, count] : sorted)
        out.rows.push_back(line_of(view, columns, {count_text(count), plain(reason, view.glyphs)}));
    return out;
}

Section connections(const View& view) {
    std::vector<const Connection*> newest;
    std::uint64_t last_id = 0;
    for (const auto& connection : view.snapshot.connections) {
        newest.push_back(&connection);
        last_id = std::max(last_id, connection.id);
    }
    // There may be very many, and the page is drawn every second: only those that may be seen are written.
    const auto shown = std::min(newest.size(), view.height);
    const auto younger = [](const Connection* a, const Connection* b) {
        return std::pair(a->since, a->id) > std::pair(b->since, b->id);
    };
    std::ranges::partial_sort(newest, newest.begin() + static_cast<std::ptrdiff_t>(shown), younger);
    const Columns columns = {
        number_column("SESSION", std::max<std::size_t>(7, std::to_string(last_id).size()), 0),
        name_column("SERVICE", {view.service_names, 10, 24}),
        name_column("PEER", {view.peer_names, 10, 24}),
        number_column("AGE", 6, 2),
        number_column("IN", 8, 3),
        number_column("OUT", 8, 3),
        {"FROM", Align::left, 21, 47, 1}};
    Section out = begin(view, columns);
    out.few = 2;
    const std::uint64_t here = newest.size() - shown;
    out.left_out = here + std::min(view.snapshot.connections_left_out, kHuge - here);
    newest.resize(shown);
    for (const auto* connection : newest) {
        out.rows.push_back(line_of(
            view, columns,
            {std::to_string(connection->id), plain(connection->service, view.glyphs),
             plain(connection->peer.empty() ? kAnyKey : std::string_view(connection->peer), view.glyphs),
             age_text(between(connection->since, view.snapshot.now)),
             bytes_text(connection->traffic.bytes_in), bytes_text(connection->traffic.bytes_out),
             plain(connection->source, view.glyphs)}));
    }
    return out;
}

}  // namespace

View view_of(const Snapshot& snapshot, const Rates* rates, const Screen& screen) {
    constexpr std::size_t kNoLimit = 1'000'000;
    View view{snapshot,
              rates,
              screen.glyphs,
              screen.width == 0 ? kNoLimit : screen.width,
              screen.height == 0 ? kNoLimit : screen.height,
              std::string_view("SERVICE").size(),
              std::string_view("PEER").size()};
    const auto widen = [&](std::size_t& longest, std::string_view name) {
        longest = std::max(longest, cells(plain(name, screen.glyphs)));
    };
    for (const auto& service : snapshot.services) widen(view.service_names, service.name);
    for (const auto& peer : snapshot.peers) widen(view.peer_names, shown_name(peer));
    return view;
}

std::vector<Section> sections(const View& view) {
    std::vector<Section> out;
    for (const auto make : {services, peers, refusals, connections}) {
        auto section = make(view);
        if (!section.rows.empty() || section.left_out != 0) out.push_back(std::move(section));
    }
    return out;
}

}  // namespace curvegate::status::parts
