// Tables and figures: the files, and that text from data stays text.
#include "linnet/examples/support/figure.h"
#include "linnet/tests/examples/files.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace std::string_literals;
using linnet::examples::draw;
using linnet::examples::Figure;
using linnet::examples::gnuplot_string;
using linnet::examples::Table;
using linnet::tests::contains;
using linnet::tests::Folder;
using linnet::tests::message_of;
using linnet::tests::read_text;

namespace {

const Table table{{"t", "loss", "share"}, {{0, 1, 0.1}, {1, 0.5, std::numeric_limits<double>::quiet_NaN()}, {10, 0.125, 0.9}, {std::numeric_limits<double>::infinity(), 1e-20, 1}}};

Figure figure_named(const std::string& title) {
  return {title, title, 1, 10, {{title, title, true, 1e-8, "bottom left", {{1, title, "lines lw 2"}}}, {"share", "share", false, 0, "", {{2, "", "points"}}}}};
}

// Some gnuplot is there to run; without it the figure's data and script are all there is.
bool has_gnuplot() { return std::system("gnuplot -d -e 'exit' >/dev/null 2>&1") == 0; }

}  // namespace

TEST_CASE("a table is written so that its numbers come back to the bit, with blanks where there are none") {
  const Folder folder;
  linnet::examples::write_csv({{"a", "b, \"c\""}, {{0.1, 1.0 / 3}, {std::nan(""), -1e-300}}}, folder.path() / "t.csv");
  CHECK(read_text(folder.path() / "t.csv") == "a,\"b, \"\"c\"\"\"\n0.1,0.3333333333333333\n,-1e-300\n");
  CHECK(!std::filesystem::exists(folder.path() / "t.csv.tmp"));
}

TEST_CASE("what cannot be written or drawn is refused") {
  const Folder folder;
  CHECK(contains(message_of([&] { linnet::examples::write_csv(table, folder.path() / "none" / "t.csv"); }), "t.csv cannot be written"));
  CHECK(contains(message_of([&] { linnet::examples::write_csv({{"a"}, {{1, 2}}}, folder.path() / "t.csv"); }), "a row has 2 values under 1 names"));
  Figure figure = figure_named("x");
  figure.panels[0].curves[0].column = 3;
  CHECK(contains(message_of([&] { draw(figure, table, folder.path(), "f", false); }), "column 3 of a table of 3"));
}

TEST_CASE("text becomes a string in which gnuplot finds nothing to run") {
  CHECK(gnuplot_string("plain") == "'plain'");
  CHECK(gnuplot_string("it's `touch x`\n\"$(y)\"") == "'it''s `touch x` \"$(y)\"'");
}

TEST_CASE("a figure is drawn as SVG and PNG, whatever its title holds") {
  const Folder folder;
  const std::string title = "`touch "s + (folder.path() / "planted").string() + "` ' \" \\ $0 @x {/Bold y} %s\n!touch z";
  const auto drawn = draw(figure_named(title), table, folder.path(), "f");
  CHECK(std::filesystem::exists(folder.path() / "f.csv"));
  CHECK(std::filesystem::exists(folder.path() / "f.gp"));
  CHECK(!std::filesystem::exists(folder.path() / "planted"));
  if (!has_gnuplot()) {
    CHECK(contains(drawn.note, "gnuplot is not installed"));
    return;
  }
  CHECK(drawn.note.empty());
  REQUIRE(drawn.files.size() == 4);
  CHECK(contains(read_text(folder.path() / "f.svg"), "</svg>"));
  CHECK(contains(read_text(folder.path() / "f.svg"), "`touch "));
  CHECK(read_text(folder.path() / "f.png").substr(1, 3) == "PNG");
  CHECK(!std::filesystem::exists(folder.path() / "planted"));
  CHECK(!std::filesystem::exists(folder.path() / "z"));
}

TEST_CASE("without gnuplot there is the table, the script, and a note that says so") {
  const Folder folder;
  const std::string path = std::getenv("PATH");
  setenv("PATH", folder.path().c_str(), 1);
  const auto drawn = draw(figure_named("x"), table, folder.path(), "f");
  setenv("PATH", path.c_str(), 1);
  CHECK(contains(drawn.note, "gnuplot is not installed (Debian: gnuplot-nox)"));
  CHECK(drawn.files.size() == 2);
  CHECK(std::filesystem::exists(folder.path() / "f.gp"));
}
