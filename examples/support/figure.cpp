// Writes the files and runs gnuplot, without a shell.
#include "linnet/examples/support/figure.h"

#include <fmt/format.h>

#include <sys/wait.h>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <stdexcept>

extern char** environ;

namespace linnet::examples {

namespace fs = std::filesystem;

namespace {

// Written beside and renamed, so that a figure's files are whole or absent.
void write_file(const fs::path& file, const std::string& text) {
  const fs::path temporary = file.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary);
  out << text;
  out.close();
  std::error_code error;
  if (out) fs::rename(temporary, file, error);
  if (!out || error) throw std::runtime_error(fmt::format("{} cannot be written: {}", file.string(), error ? error.message() : std::strerror(errno)));
}

std::string csv_name(const std::string& name) {
  if (name.find_first_of(",\"\r\n") == std::string::npos) return name;
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string script(const Figure& figure, const std::string& name) {
  std::string text = fmt::format(
      "# Draws {0}.svg and {0}.png from {0}.csv: gnuplot {0}.gp\n"
      "set encoding utf8\nset datafile separator ','\nset datafile missing ''\n"
      "set logscale x\nset format x '10^{{%T}}'\nset xrange [{1:g}:{2:g}]\nset xlabel {3}\n"
      "set border 3 lc rgb '#444444'\nset tics nomirror textcolor rgb '#222222'\nset grid lc rgb '#dddddd' lw 1\n"
      "do for [kind in 'svg png'] {{\n"
      "if (kind eq 'svg') {{ set terminal svg size 1200,500 font 'DejaVu Sans,15' background rgb 'white' }} else {{ set terminal pngcairo size 1200,500 font 'DejaVu Sans,11' }}\n"
      "set output '{0}.'.kind\n"
      "set multiplot layout 1,{4} title {5} noenhanced margins char 9,2,4,4 spacing char 11,0\n",
      name, figure.x_min, figure.x_max, gnuplot_string(figure.x_label), figure.panels.size(), gnuplot_string(figure.title));
  for (const Panel& panel : figure.panels) {
    text += fmt::format("set title {} noenhanced\nset ylabel {} noenhanced\n{} logscale y\nset format y '{}'\nset yrange [{}:*]\n", gnuplot_string(panel.title), gnuplot_string(panel.y_label),
                        panel.log_y ? "set" : "unset", panel.log_y ? "10^{%T}" : "%g",
                        panel.y_min > 0 ? fmt::format("{:g}", panel.y_min) : "*");
    text += panel.legend.empty() ? "unset key\n" : "set key " + panel.legend + " noenhanced reverse Left samplen 2.5 spacing 1.15\n";
    text += "plot";
    for (const Curve& curve : panel.curves) {
      const std::string title = curve.title.empty() ? "notitle" : "title " + gnuplot_string(curve.title);
      text += fmt::format("{} '{}.csv' every ::1 using 1:{} {} with {}", &curve == &panel.curves.front() ? "" : ", \\\n    ", name, curve.column + 1, title, curve.style);
    }
    text += "\n";
  }
  return text + "unset multiplot\nset output\n}\n";
}

// Answers what went wrong, or nothing.
std::string run_gnuplot_on(const fs::path& folder, const std::string& script_name) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  std::string program = "gnuplot", no_personal_settings = "-d", argument = script_name;
  const std::array<char*, 4> argv{program.data(), no_personal_settings.data(), argument.data(), nullptr};
  std::string utf8 = "LC_ALL=C.UTF-8";  // the script is UTF-8 whatever the user's locale
  std::vector<char*> environment{utf8.data()};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "LC_ALL=", 7) != 0) environment.push_back(*entry);
  }
  environment.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawnp(&child, "gnuplot", &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) return "gnuplot is not installed (Debian: gnuplot-nox)";
  if (error != 0) return fmt::format("gnuplot cannot be run: {}", std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return fmt::format("gnuplot was lost: {}", std::strerror(errno));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  return fmt::format("gnuplot failed with {} {}", WIFEXITED(status) ? "exit status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

}  // namespace

std::string gnuplot_string(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += "''";
    else quoted += static_cast<unsigned char>(c) < ' ' ? ' ' : c;  // a line break would end the command
  }
  return quoted + "'";
}

void write_csv(const Table& table, const fs::path& file) {
  std::string text;
  for (std::size_t i = 0; i < table.names.size(); ++i) text += fmt::format("{}{}", i ? "," : "", csv_name(table.names[i]));
  text += "\n";
  for (const std::vector<double>& row : table.rows) {
    if (row.size() != table.names.size()) throw std::invalid_argument(fmt::format("write_csv: a row has {} values under {} names", row.size(), table.names.size()));
    for (std::size_t i = 0; i < row.size(); ++i) text += fmt::format("{}{}", i ? "," : "", std::isnan(row[i]) ? "" : fmt::format("{}", row[i]));
    text += "\n";
  }
  write_file(file, text);
}

Drawn draw(const Figure& figure, const Table& table, const fs::path& folder, const std::string& name, bool run_gnuplot) {
  for (const Panel& panel : figure.panels) {
    for (const Curve& curve : panel.curves) {
      if (curve.column >= table.names.size()) throw std::invalid_argument(fmt::format("draw: column {} of a table of {}", curve.column, table.names.size()));
    }
  }
  const fs::path stem = folder / name;
  Drawn drawn{{stem.string() + ".csv", stem.string() + ".gp"}, ""};
  write_csv(table, drawn.files[0]);
  write_file(drawn.files[1], script(figure, name));
  if (!run_gnuplot) return drawn;
  drawn.note = run_gnuplot_on(folder, name + ".gp");
  if (drawn.note.empty()) {
    for (const char* kind : {".svg", ".png"}) drawn.files.emplace_back(stem.string() + kind);
  }
  return drawn;
}

}  // namespace linnet::examples
