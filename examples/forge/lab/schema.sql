-- Runs at every start: what is there stays.
select 'create role forge login' where not exists (select from pg_roles where rolname = 'forge') \gexec
\set password `cat /run/keys/db`
alter role forge password :'password';
select 'create database forge owner forge' where not exists (select from pg_database where datname = 'forge') \gexec
\connect forge
set role forge;
set client_min_messages = warning;
create table if not exists pushes (
  id bigserial primary key,
  at timestamptz not null default now(),
  repository text not null,
  branch text not null,
  commit text not null,
  author text not null,
  subject text not null
);
create table if not exists builds (
  repository text not null,
  commit text not null,
  at timestamptz not null default now(),
  outcome text not null,
  output text not null,
  primary key (repository, commit)
);
