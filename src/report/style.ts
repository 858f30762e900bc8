/** The style sheet of reports. Colours have a contrast of at least 4.5 (text) and 3 (lines and areas) with their background;
 *  those of series are of Okabe and Ito, "Color Universal Design" (2008), made darker for light pages and lighter for dark
 *  ones. */
export const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--soft:#f3f5f7;--link:#0550ae;
--c1:#0067a8;--c2:#b4500b;--c3:#00805c;--c4:#a3387a;--c5:#7a6a00;--c6:#2b7fa3;--c7:#5b5bd6;--c8:#666}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ed;--dim:#a3adb8;--line:#3a424b;--soft:#1e2329;--link:#79b8ff;
--c1:#56b4e9;--c2:#f0944d;--c3:#2fc79a;--c4:#e68fc0;--c5:#e3d14a;--c6:#8ed0ea;--c7:#a8a8ff;--c8:#b0b0b0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:0 1rem 2rem;max-width:50rem;background:var(--bg);color:var(--fg);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:1.5rem 0 .5rem}
h2{font-size:1.25rem;margin:2.25rem 0 .5rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
.lead{font-size:1.1rem;margin:.5rem 0}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
h2:focus,main:focus{outline:none}
.skip{position:absolute;left:-99rem;background:var(--bg);padding:.5rem}
.skip:focus{left:1rem;top:.5rem}
nav ul{padding:0;margin:1rem 0;list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}
nav a{display:inline-block;padding:.25rem 0}
figure{margin:1.5rem 0}
figcaption{font-weight:600;margin-bottom:.4rem}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.2rem 0 .4rem;padding:0;font-size:.9rem}
.legend svg{vertical-align:middle}
.wide{display:none}
.narrow svg,.wide svg{display:block;max-width:100%;height:auto;overflow:visible}
@media (min-width:48rem){.wide{display:block}.narrow{display:none}}
details{margin:.4rem 0}
summary{cursor:pointer;color:var(--dim);padding:.25rem 0;font-size:.9rem}
.scroll{overflow-x:auto;max-height:28rem;overflow-y:auto;margin:.75rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:.4rem}
caption span{display:block;position:sticky;left:0;width:max-content;max-width:min(100vw - 2rem,48rem)}
details caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);overflow-wrap:normal}
thead th{background:var(--soft)}
th[scope=row]{font-weight:400}
.n{text-align:right;white-space:nowrap}
.l{overflow-wrap:anywhere;min-width:12rem}
.t{min-width:17rem}
dl div{display:flex;flex-wrap:wrap;gap:0 .75rem;padding:.15rem 0}
dt{color:var(--dim);min-width:8rem}
dd{margin:0}
@media print{.wide{display:block}.narrow,nav,.skip{display:none}figure{break-inside:avoid}}
`.trim();
